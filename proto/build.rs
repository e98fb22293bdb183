//! Compiles the contract: messages and services by prost and tonic, the descriptor set with every option for those who
//! read the contract at run time, and the constants of each event.
use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, Value};

#[expect(clippy::disallowed_methods, reason = "a build script is told by its environment where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    find(&PathBuf::from("rapport"), &mut files)?;
    files.sort();
    println!("cargo::rerun-if-changed=rapport");
    println!("cargo::rerun-if-changed=vendor");

    let mut compiler = protox::Compiler::new([".", "vendor"])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let bytes = compiler.encode_file_descriptor_set();
    fs::write(out.join("rapport.binpb"), &bytes)?;

    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // Their links and examples are not Rust.
    config.disable_comments([".google", ".buf"]);
    config.bytes([".google.api.HttpBody"]);
    for large in
        ["CustomerChange.change.create", "CustomerChange.change.update", "CustomerChange.change.upsert"]
    {
        config.boxed(format!(".rapport.customer.v1.{large}"));
    }
    config.boxed(".rapport.customer.v1.CustomerResult.result.customer");
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    fs::write(out.join("events.rs"), events(&DescriptorPool::decode(bytes.as_slice())?)?)?;
    Ok(())
}

/// Collects the `.proto` files below `folder`.
fn find(folder: &PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// An `impl Event` for each message that the contract marks as an event.
fn events(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option = pool.get_extension_by_name("rapport.options.v1.event").ok_or("no event option")?;
    let mut code = String::new();
    for message in pool.all_messages() {
        let options = message.options();
        if !options.has_extension(&option) {
            continue;
        }
        let event = options.get_extension(&option);
        let subject = event.as_message().and_then(|m| m.get_field_by_name("subject")).map(|v| v.into_owned());
        let Some(Value::String(subject)) = subject else { return Err("an event without a subject".into()) };
        let package = message.package_name().replace("rapport.", "").replace('.', "::");
        writeln!(
            code,
            "impl Event for crate::{package}::{} {{ const SUBJECT: &'static str = {subject:?}; }}",
            message.name()
        )?;
    }
    Ok(code)
}
