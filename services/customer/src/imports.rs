//! The gRPC face of customers' imports. What it does is the import engine's; here is which resource it does it for.
use rapport_import::{Imports, Pieces};
use rapport_kernel::Ctx;
use rapport_proto::{customer::v1::import_service_server::ImportService, imports::v1 as pb};
use tonic::{Request, Response, Status, Streaming};

/// Serves `ImportService`.
#[derive(Clone)]
pub(crate) struct ImportApi(pub(crate) Imports);

#[tonic::async_trait]
impl ImportService for ImportApi {
    async fn list_imports(
        &self,
        request: Request<pb::ListImportsRequest>,
    ) -> Result<Response<pb::ListImportsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.list(&ctx, &r).await?)
    }

    async fn get_import(
        &self,
        request: Request<pb::GetImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.get(&ctx, &r).await?)
    }

    async fn create_import(
        &self,
        request: Request<pb::CreateImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.create(&ctx, r).await?)
    }

    async fn update_import(
        &self,
        request: Request<pb::UpdateImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.update(&ctx, r).await?)
    }

    async fn upload_import_file(
        &self,
        request: Request<Streaming<pb::UploadImportFileRequest>>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, pieces) = Ctx::open(request)?;
        Ok(self.0.upload(&ctx, pieces).await?)
    }

    async fn dry_run_import(
        &self,
        request: Request<pb::DryRunImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.dry_run(&ctx, &r).await?)
    }

    async fn start_import(
        &self,
        request: Request<pb::StartImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.start(&ctx, &r).await?)
    }

    async fn cancel_import(
        &self,
        request: Request<pb::CancelImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.cancel(&ctx, &r).await?)
    }

    async fn undo_import(
        &self,
        request: Request<pb::UndoImportRequest>,
    ) -> Result<Response<pb::Import>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.undo(&ctx, &r).await?)
    }

    async fn list_import_issues(
        &self,
        request: Request<pb::ListImportIssuesRequest>,
    ) -> Result<Response<pb::ListImportIssuesResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.0.list_issues(&ctx, &r).await?)
    }

    type DownloadImportIssuesStream = Pieces;

    async fn download_import_issues(
        &self,
        request: Request<pb::DownloadImportIssuesRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(Response::new(self.0.download_issues(&ctx, &r).await?))
    }
}
