//! The comments of the contract, by what they stand above.
use std::collections::HashMap;

use prost_reflect::FileDescriptor;
use rapport_proto::POOL;

/// The comments of every file.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    /// Reads them from the descriptor set, which keeps where each stood.
    pub(super) fn read() -> Self {
        let mut comments = HashMap::new();
        for file in POOL.files() {
            let Some(info) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in &info.location {
                if let Some(text) = &location.leading_comments {
                    comments.insert((file.name().to_owned(), location.path.clone()), tidy(text));
                }
            }
        }
        Self(comments)
    }

    /// The comment above what stands at `path` in `file`; empty when there is none.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(&(file.name().to_owned(), path.to_vec())).map(String::as_str).unwrap_or_default()
    }
}

/// Lines of a paragraph become one line.
fn tidy(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|p| p.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    paragraphs.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The first sentence, without its full stop.
pub(super) fn summary(text: &str) -> &str {
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split(". ").next().unwrap_or_default().split(';').next().unwrap_or_default().trim_end_matches('.')
}
