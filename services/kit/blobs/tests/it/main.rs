//! Files in a local folder: what is written is read, what fails leaves nothing.
#[cfg(test)]
mod files;
