//! What the contract's comments say that its annotations do not: which fields are for output only, which never change.
use prost_reflect::FieldDescriptor;
use rapport_proto::POOL;
use std::{collections::HashMap, sync::LazyLock};

/// The comment above each field, by the field's full name.
static COMMENTS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut above = HashMap::new();
    for file in POOL.files() {
        let Some(info) = &file.file_descriptor_proto().source_code_info else { continue };
        for location in &info.location {
            above.insert((file.name().to_owned(), location.path.clone()), location.leading_comments.clone());
        }
    }
    let fields = POOL.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
    fields
        .filter_map(|field| {
            let at = (field.parent_message().parent_file().name().to_owned(), field.path().to_vec());
            Some((field.full_name().to_owned(), above.get(&at)?.clone()?))
        })
        .collect()
});

fn says(field: &FieldDescriptor, words: &str) -> bool {
    COMMENTS.get(field.full_name()).is_some_and(|comment| comment.contains(words))
}

/// Whether the service alone writes the field.
pub fn is_output_only(field: &FieldDescriptor) -> bool {
    says(field, "Output only.")
}

/// Whether the field stays as it was created.
pub fn is_immutable(field: &FieldDescriptor) -> bool {
    says(field, "Immutable.")
}
