//! Where a file lies: under its tenant, in an area, by its id.
use std::fmt;

use object_store::path::Path;
use rapport_kernel::{Id, Tenant};
use uuid::Uuid;

/// The name of a file.
///
/// It is made of two UUIDs and a word of the program's own: no caller's text becomes part of a path, so there is nothing
/// to escape from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    tenant: Id<Tenant>,
    area: &'static str,
    id: Uuid,
}

impl Key {
    /// The file `id` of a tenant in an area, e.g. `imports`.
    pub const fn new(tenant: Id<Tenant>, area: &'static str, id: Uuid) -> Self {
        Self { tenant, area, id }
    }

    /// The file's id.
    pub const fn id(self) -> Uuid {
        self.id
    }

    /// The path below `root`. Each part is encoded, so that even an area with a slash would stay one part.
    pub(crate) fn below(self, root: &Path) -> Path {
        let own = Path::from_iter([self.tenant.to_string(), self.area.to_owned(), self.id.to_string()]);
        root.parts().chain(own.parts()).collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.area, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_below_its_tenant() {
        let tenant = Id::new(Uuid::from_u128(1));
        let root = Path::from("cell/files");
        let path = Key::new(tenant, "imports", Uuid::from_u128(2)).below(&root);
        assert_eq!(
            path.as_ref(),
            "cell/files/00000000-0000-0000-0000-000000000001/imports/00000000-0000-0000-0000-000000000002"
        );
        for area in ["../other", "..", "a/b", "/"] {
            let path = Key::new(tenant, area, Uuid::nil()).below(&root);
            assert!(path.as_ref().starts_with(&format!("cell/files/{tenant}/")), "{path}");
            assert_eq!(path.parts_count(), 5, "{path}");
            assert!(path.parts().all(|part| part.as_ref() != ".."), "{path}");
        }
    }
}
