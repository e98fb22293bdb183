//! Listing, reading, creating and changing imports.
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::imports::v1 as pb;
use rapport_store::{Etag, ListParams, Resource as _, mask};
use tonic::Response;

use crate::{
    Import, Imports,
    import::{Progress, existing},
    issues::Issue,
    mapping,
    state::{Action, Phase, State},
};

impl Imports {
    /// Lists imports, newest first.
    ///
    /// # Errors
    /// `Invalid` for a filter, order or page token that cannot be.
    pub async fn list(
        &self,
        ctx: &Ctx,
        request: &pb::ListImportsRequest,
    ) -> Result<Response<pb::ListImportsResponse>, Error> {
        let mut tx = self.db().begin(ctx).await?;
        let page = tx
            .list::<Import>(&ListParams {
                filter: &request.filter,
                order_by: &request.order_by,
                page_size: request.page_size,
                page_token: &request.page_token,
                show_deleted: false,
            })
            .await?;
        tx.finish().await?;
        Ok(Response::new(pb::ListImportsResponse {
            imports: page.items.into_iter().map(Into::into).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    /// Reads one import.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(
        &self,
        ctx: &Ctx,
        request: &pb::GetImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let id = Id::<Import>::parse("id", &request.id)?.uuid();
        let mut tx = self.db().begin(ctx).await?;
        let import = tx.get::<Import>(id).await?;
        tx.finish().await?;
        Ok(Response::new(import.into()))
    }

    /// Begins an import: it waits for its file.
    ///
    /// # Errors
    /// `Invalid` for a resource that cannot be imported and for mappings of targets that it does not have; `AlreadyExists`
    /// when the id is taken.
    pub async fn create(
        &self,
        ctx: &Ctx,
        request: pb::CreateImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let given = request.import.ok_or_else(|| Error::invalid("import", "must be given"))?;
        let resource = self.resource(&given.resource)?;
        let mut tx = self.db().begin(ctx).await?;
        let now = tx.now();
        let import = Import {
            id: match given.id.as_str() {
                "" => ctx.new_id::<Import>().uuid(),
                id => Id::<Import>::parse("import.id", id)?.uuid(),
            },
            version: 1,
            resource: given.resource,
            source: given.source,
            file_name: given.file_name,
            mappings: given.mappings.iter().map(Into::into).collect(),
            existing: existing(given.existing)?.to_owned(),
            state: State::Waiting,
            phase: Phase::None,
            file: None,
            progress: Progress::default(),
            failure: String::new(),
            creator: ctx.user(),
            create_time: now,
            update_time: now,
        };
        mapping::check(&import.mappings, &resource.targets(&tx), None)?;
        tx.insert(&import)?;
        tx.emit(&import, &import.event(pb::ImportState::Unspecified))?;
        tx.commit(import.into()).await
    }

    /// Changes mappings, source, policy or name before the start. What a dry run found is forgotten with it.
    ///
    /// # Errors
    /// `Invalid` for mappings that make no sense, and for fields that cannot be changed; `Stale`; `Rule` once it began.
    pub async fn update(
        &self,
        ctx: &Ctx,
        request: pb::UpdateImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let given = request.import.ok_or_else(|| Error::invalid("import", "must be given"))?;
        let id = Id::<Import>::parse("import.id", &given.id)?.uuid();
        let etag = Etag::parse("import.etag", &given.etag)?;
        let named = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
        let paths = mask::paths(ctx, Import::KIND, &given, request.update_mask.as_ref())?;
        let mut tx = self.db().begin(ctx).await?;
        let before = tx.get_for_update::<Import>(id).await?;
        etag.matches(&before)?;
        Action::Update.allow(before.state, before.phase)?;
        let mut after = before.moved_on(tx.now());
        for path in &paths {
            change(&mut after, &given, path, named)?;
        }
        let targets = self.resource(&after.resource)?.targets(&tx);
        mapping::check(&after.mappings, &targets, after.column_names().as_deref())?;
        after.unchecked();
        Issue::forget(&mut tx, id).await?;
        Import::save(&mut tx, &before, &after)?;
        tx.commit(after.into()).await
    }
}

/// Changes one field. Output-only fields are ignored where a whole import is sent back, and refused where they are named.
fn change(import: &mut Import, given: &pb::Import, path: &str, named: bool) -> Result<(), Error> {
    match path {
        "source" => import.source.clone_from(&given.source),
        "file_name" => import.file_name.clone_from(&given.file_name),
        "mappings" => import.mappings = given.mappings.iter().map(Into::into).collect(),
        "existing" => existing(given.existing)?.clone_into(&mut import.existing),
        "resource" if given.resource == import.resource => {}
        "resource" => {
            return Err(Error::invalid("import.resource", "cannot be changed; create another import"));
        }
        "state" | "columns" | "progress" | "failure" | "creator" | "create_time" | "update_time"
            if !named => {}
        other => return Err(Error::invalid("update_mask", format!("`{other}` cannot be changed"))),
    }
    Ok(())
}
