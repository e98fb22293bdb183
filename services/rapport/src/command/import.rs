//! `rapport import`: bringing customers in from a CSV file, with a progress bar.
use std::{path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use rapport_kernel::BoxError;
use rapport_proto::{
    customer::v1::import_service_client::ImportServiceClient,
    google::api::HttpBody,
    imports::v1::{
        CreateImportRequest, DryRunImportRequest, GetImportRequest, Import, ImportState,
        ListImportIssuesRequest, StartImportRequest, UploadImportFileRequest, mapping,
    },
};
use tokio::io::AsyncReadExt as _;

use super::client::{Called, Target};

/// Bytes of the file in one piece.
const PIECE: usize = 256 << 10;
/// How often progress is asked for.
const EVERY: Duration = Duration::from_millis(250);
/// Refused rows that are shown.
const SHOWN: i32 = 20;

/// What to bring in.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// The CSV file
    file: PathBuf,
    /// The system that the file comes from, to which its external ids belong, e.g. `erp`
    #[arg(long, default_value = "file")]
    source: String,
    /// Only check, write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Uploads the file, shows how its columns were understood, runs the import and says what became of it.
///
/// # Errors
/// In words for whoever typed the command.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let mut imports = ImportServiceClient::new(options.target.connect().await?);
    let name = options.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let import = Import {
        resource: "customer".into(),
        source: options.source.clone(),
        file_name: name,
        ..Import::default()
    };
    let created = imports
        .create_import(CreateImportRequest { import: Some(import), request_id: String::new() })
        .await
        .map_err(said)?
        .into_inner();
    let id = created.id;
    let uploaded = upload(&mut imports, &id, &options.file).await?;
    for mapping in &uploaded.mappings {
        match &mapping.value {
            Some(mapping::Value::Column(column)) => println!("  {column} → {}", mapping.target),
            Some(mapping::Value::Constant(constant)) => println!("  \"{constant}\" → {}", mapping.target),
            None => {}
        }
    }
    if options.dry_run {
        imports.dry_run_import(DryRunImportRequest { id: id.clone() }).await.map_err(said)?;
    } else {
        imports.start_import(StartImportRequest { id: id.clone() }).await.map_err(said)?;
    }
    let ended = watch(&mut imports, &id).await?;
    tell(&mut imports, &ended, options.dry_run).await
}

/// Sends the file in pieces.
async fn upload(
    imports: &mut ImportServiceClient<Called>,
    id: &str,
    path: &std::path::Path,
) -> Result<Import, BoxError> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let (pieces, taken) = tokio::sync::mpsc::channel::<UploadImportFileRequest>(4);
    let id = id.to_owned();
    let reading = tokio::spawn(async move {
        let mut first = id;
        loop {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).await?;
            piece.truncate(read);
            let last = piece.is_empty();
            let body =
                HttpBody { content_type: "text/csv".into(), data: piece.into(), extensions: Vec::new() };
            let request = UploadImportFileRequest { id: std::mem::take(&mut first), file: Some(body) };
            // Whoever stops listening says why in the answer.
            if pieces.send(request).await.is_err() || last {
                return Ok::<(), std::io::Error>(());
            }
        }
    });
    let answer = imports.upload_import_file(tokio_stream::wrappers::ReceiverStream::new(taken)).await;
    reading.await?.map_err(failed)?;
    Ok(answer.map_err(said)?.into_inner())
}

/// Shows progress until it stands still.
async fn watch(imports: &mut ImportServiceClient<Called>, id: &str) -> Result<Import, BoxError> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} left",
    )?);
    loop {
        let import =
            imports.get_import(GetImportRequest { id: id.to_owned() }).await.map_err(said)?.into_inner();
        let progress = import.progress.unwrap_or_default();
        bar.set_length(u64::try_from(progress.rows_total).unwrap_or_default());
        bar.set_position(u64::try_from(progress.rows_done).unwrap_or_default());
        if !matches!(import.state(), ImportState::Checking | ImportState::Running) {
            bar.finish();
            return Ok(import);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Says what became of it, with the first refused rows.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
async fn tell(
    imports: &mut ImportServiceClient<Called>,
    import: &Import,
    dry_run: bool,
) -> Result<(), BoxError> {
    if import.state() == ImportState::Failed {
        return Err(import.failure.clone().into());
    }
    let progress = import.progress.unwrap_or_default();
    let would = if dry_run { "would be " } else { "" };
    println!(
        "{} {would}created, {} {would}changed, {} the same, {} refused",
        progress.created, progress.updated, progress.unchanged, progress.rejected
    );
    if progress.rejected > 0 {
        let request = ListImportIssuesRequest {
            id: import.id.clone(),
            page_size: SHOWN,
            ..ListImportIssuesRequest::default()
        };
        for issue in imports.list_import_issues(request).await.map_err(said)?.into_inner().issues {
            println!("  line {}: {} {}: {}", issue.line, issue.column, issue.value, issue.problem);
        }
    }
    println!("import {}", import.id);
    Ok(())
}

/// What the service said, without the wrapping.
fn said(status: tonic::Status) -> BoxError {
    status.message().to_owned().into()
}
