//! How a transaction in a tenant begins.
use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
};

use futures::future::BoxFuture;
use prost::Message;
use rapport_kernel::{Ctx, Error, Scope, hex};
use sqlx::Row as _;
use tonic::Response;

use crate::{
    Db, OpenTx, TenantTx,
    error::{database, refusal},
    fields::TenantFields,
};

impl Db {
    /// Begins a transaction for the caller in the caller's tenant, in one round trip.
    ///
    /// # Errors
    /// `Repeated` when a write with this request id was answered before; `Rule` when the tenant is not served or the
    /// request id was used for something else.
    pub async fn begin(&self, ctx: &Ctx) -> Result<TenantTx, Error> {
        let tenant = ctx.tenant.uuid();
        if tenant.is_nil() {
            return Err(Error::Unauthenticated);
        }
        let seen = self.all_seen(ctx);
        for _ in 0..4 {
            let fields = match self.0.fields.get(&tenant) {
                Some(fields) => fields,
                None => self.read_fields(ctx).await?,
            };
            match self.enter(ctx, &seen, fields.version).await {
                Ok((_, Some(first_answer))) => return Err(Error::Repeated(first_answer)),
                Ok((tx, None)) => return Ok(TenantTx::new(self, Some(tx), ctx.clone(), fields, seen)),
                Err(error) => match refusal(&error) {
                    Some("RP002") => self.0.fields.invalidate(&tenant),
                    Some("RP008") => self.learn(ctx).await?,
                    _ => return Err(database(error)),
                },
            }
        }
        Err(Error::Conflict)
    }

    /// Does `work` and commits its answer. What only writes new records takes a single round trip: its statement enters the
    /// tenant and is the transaction. What reads, begins with the first thing that it reads.
    ///
    /// Until then nothing has said whether what is known here of the tenant still holds. So `work` may be done twice: what
    /// fails before a transaction has begun, and what the database refuses of that single statement, is done again in one that
    /// began properly. Where nobody knows whether the statement came through, it is only done again for a request with an
    /// id, which has its effect once.
    ///
    /// # Errors
    /// Those of `begin`, of `work`, and of the commit.
    pub async fn write<M, W>(&self, ctx: &Ctx, work: W) -> Result<Response<M>, Error>
    where
        M: Message,
        W: for<'t> Fn(&'t mut TenantTx) -> BoxFuture<'t, Result<M, Error>>,
    {
        if let Some(mut tx) = self.begin_late(ctx) {
            let done = match work(&mut tx).await {
                Ok(answer) => tx.commit_in_place(&answer).await.map(|()| answer),
                Err(error) => Err(error),
            };
            let again = match &done {
                Ok(_) | Err(Error::Internal(_)) => false,
                Err(Error::Unavailable(_)) => ctx.request_id.is_some(),
                Err(_) => true,
            };
            if !again || tx.has_begun() {
                return done.map(Response::new);
            }
        }
        let mut tx = self.begin(ctx).await?;
        let answer = work(&mut tx).await?;
        tx.commit(answer).await
    }

    /// A transaction of which PostgreSQL has heard nothing yet; `None` when too little is known here of the tenant.
    fn begin_late(&self, ctx: &Ctx) -> Option<TenantTx> {
        let fields = self.0.fields.get(&ctx.tenant.uuid())?;
        Some(TenantTx::new(self, None, ctx.clone(), fields, self.all_seen(ctx)))
    }

    /// Begins and enters the tenant; gives the first answer, too, when this request was answered before.
    pub(crate) async fn enter(
        &self,
        ctx: &Ctx,
        seen: &str,
        fields_version: i64,
    ) -> Result<(OpenTx, Option<Vec<u8>>), sqlx::Error> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let (tx, rows) = OpenTx::begin(&self.0.pool, enter(ctx, seen, fields_version)).await?;
        Ok((tx, rows.last().map(|row| row.try_get(0)).transpose()?.flatten()))
    }

    /// A connection for one statement that is a transaction of its own.
    pub(crate) async fn unbegun(&self) -> Result<OpenTx, Error> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        OpenTx::unbegun(&self.0.pool).await.map_err(database)
    }

    /// The scoped resources that the caller sees all of, and those of which the caller sees what belongs to units, as the
    /// policies read them: `,customer,lead@unit,`.
    pub(crate) fn all_seen(&self, ctx: &Ctx) -> String {
        let mut all = String::from(",");
        for (resource, permission) in &self.0.scoped {
            match ctx.grants.scope(permission) {
                Some(Scope::All) => all.push_str(resource),
                Some(Scope::Unit) => all.extend([resource, "@unit"]),
                Some(Scope::Own) | None => continue,
            }
            all.push(',');
        }
        all
    }

    /// Takes the tenant's state from the token into the service's own copy.
    async fn learn(&self, ctx: &Ctx) -> Result<(), Error> {
        let (state, generation) = ctx.tenant_state;
        let begin =
            format!("BEGIN; SELECT rapport.learn('{}', '{}', {generation})", ctx.tenant, state.as_str());
        OpenTx::begin(&self.0.pool, begin).await.map_err(database)?.0.commit().await
    }

    /// Reads the tenant's custom fields, under the version that they have at that moment.
    async fn read_fields(&self, ctx: &Ctx) -> Result<Arc<TenantFields>, Error> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config('rapport.tenant', '{}', true)",
            ctx.tenant
        );
        let (mut tx, _) = OpenTx::begin(&self.0.pool, begin).await.map_err(database)?;
        let fields = Arc::new(TenantFields::read(tx.conn()?, ctx.tenant.uuid()).await?);
        tx.commit().await?;
        self.know_fields(ctx.tenant.uuid(), fields.clone());
        Ok(fields)
    }
}

/// BEGIN and the call that enters the tenant, in one simple query, which has no bound values: everything in it is a number, a
/// UUID, a word of our own or hex, except the request id, which is quoted as hex too.
fn enter(ctx: &Ctx, seen: &str, fields_version: i64) -> String {
    let mut sql = format!(
        "BEGIN; SELECT rapport.enter('{}', '{}', '{seen}', {}, {fields_version}",
        ctx.tenant,
        user(ctx),
        ctx.tenant_state.1,
    );
    if let Some(request) = &ctx.request_id {
        let _ = write!(
            sql,
            ", '{}', {}, {}, '\\x{}', '{}'",
            ctx.principal,
            hex_text(request.method),
            hex_text(&request.key),
            hex(&request.fingerprint),
            ctx.now(),
        );
    }
    sql.push(')');
    sql
}

/// The caller as the policies read them: empty for whoever is nobody's user.
pub(crate) fn user(ctx: &Ctx) -> String {
    ctx.user().map(|user| user.to_string()).unwrap_or_default()
}

/// An SQL expression for `text` that has nothing of the text's characters in it: for statements that go in one round trip with
/// others, and so without parameters.
pub fn hex_text(text: &str) -> String {
    format!("convert_from('\\x{}', 'UTF8')", hex(text.as_bytes()))
}
