//! The gRPC face of customers: decode, call, encode.
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::{
    customer::v1::{
        self as pb, customer_change::Change, customer_result, customer_service_server::CustomerService,
    },
    google::rpc,
    r#type::v1 as types,
};
use rapport_store::{Db, Etag, ExternalId, ListParams, Resource as _, Share, ShareLevel, TenantTx};
use tonic::{Request, Response, Status};

use super::{
    Customer, User,
    batch::{self, Op},
    erase, search,
};

/// Serves `CustomerService`.
#[derive(Clone)]
pub struct CustomerApi {
    db: Db,
}

impl CustomerApi {
    /// Serves the customers in this database.
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes one change and answers with the customer.
    async fn write(&self, ctx: &Ctx, op: Op) -> Result<Response<pb::Customer>, Status> {
        let written = self.db.write(ctx, |tx| {
            let op = op.clone();
            Box::pin(async move {
                let (_, customer) = one(batch::apply(tx, vec![op]).await?)?;
                Ok(customer.seen_by(tx))
            })
        });
        Ok(written.await?)
    }
}

#[tonic::async_trait]
impl CustomerService for CustomerApi {
    async fn list_customers(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> Result<Response<pb::ListCustomersResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let page = tx
            .list::<Customer>(&ListParams {
                filter: &r.filter,
                order_by: &r.order_by,
                page_size: r.page_size,
                page_token: &r.page_token,
                show_deleted: r.show_deleted,
            })
            .await?;
        let customers = page.items.into_iter().map(|customer| customer.seen_by(&tx)).collect();
        Ok(tx.commit(pb::ListCustomersResponse { customers, next_page_token: page.next_page_token }).await?)
    }

    async fn search_customers(
        &self,
        request: Request<pb::SearchCustomersRequest>,
    ) -> Result<Response<pb::SearchCustomersResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let found = search::search(&mut tx, &r.query, r.page_size).await?;
        let customers = found.into_iter().map(|customer| customer.seen_by(&tx)).collect();
        Ok(tx.commit(pb::SearchCustomersResponse { customers }).await?)
    }

    async fn get_customer(
        &self,
        request: Request<pb::GetCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = tx.get_even_deleted::<Customer>(id.uuid()).await?;
        let seen = customer.seen_by(&tx);
        Ok(tx.commit(seen).await?)
    }

    async fn create_customer(
        &self,
        request: Request<pb::CreateCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.write(&ctx, create(r)?).await
    }

    async fn update_customer(
        &self,
        request: Request<pb::UpdateCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.write(&ctx, update(r)?).await
    }

    async fn upsert_customer(
        &self,
        request: Request<pb::UpsertCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.write(&ctx, upsert(r)?).await
    }

    async fn delete_customer(
        &self,
        request: Request<pb::DeleteCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.write(&ctx, Op::Delete(r.id, r.etag)).await
    }

    async fn undelete_customer(
        &self,
        request: Request<pb::UndeleteCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = undelete(&mut tx, id, etag).await?;
        let seen = customer.seen_by(&tx);
        Ok(tx.commit(seen).await?)
    }

    async fn erase_customer(
        &self,
        request: Request<pb::EraseCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        rapport_events::settled(&self.db, &ctx, Customer::KIND, id.uuid()).await?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = erase::erase(&mut tx, id, etag).await?;
        let seen = customer.seen_by(&tx);
        Ok(tx.commit(seen).await?)
    }

    async fn batch_customers(
        &self,
        request: Request<pb::BatchCustomersRequest>,
    ) -> Result<Response<pb::BatchCustomersResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let ops = r.changes.into_iter().map(op).collect::<Result<Vec<_>, _>>()?;
        let mut tx = self.db.begin(&ctx).await?;
        let results = batch::apply(&mut tx, ops).await?;
        let results =
            results.into_iter().map(|result| encode_result(&tx, result.map(|(_, after)| after))).collect();
        Ok(tx.commit(pb::BatchCustomersResponse { results }).await?)
    }

    async fn assign_customers(
        &self,
        request: Request<pb::AssignCustomersRequest>,
    ) -> Result<Response<pb::AssignCustomersResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let customers = assign(&mut tx, &r).await?;
        let customers = customers.into_iter().map(|customer| customer.seen_by(&tx)).collect();
        Ok(tx.commit(pb::AssignCustomersResponse { customers }).await?)
    }

    async fn list_customer_shares(
        &self,
        request: Request<pb::ListCustomerSharesRequest>,
    ) -> Result<Response<pb::ListCustomerSharesResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = tx.get::<Customer>(id.uuid()).await?;
        let shares = tx.shares(&customer).await?.iter().map(encode_share).collect();
        Ok(tx.commit(pb::ListCustomerSharesResponse { shares }).await?)
    }

    async fn share_customer(
        &self,
        request: Request<pb::ShareCustomerRequest>,
    ) -> Result<Response<types::Share>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let share = decode_share(&r.share.unwrap_or_default())?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = tx.get_for_update::<Customer>(id.uuid()).await?;
        tx.share(&customer, &share).await?;
        let shared = encode_share(&share);
        tx.emit(&customer, &pb::CustomerShared { id: r.id, share: Some(shared.clone()) })?;
        Ok(tx.commit(shared).await?)
    }

    async fn unshare_customer(
        &self,
        request: Request<pb::UnshareCustomerRequest>,
    ) -> Result<Response<()>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Customer>::parse("id", &r.id)?;
        let principal = Id::<User>::parse_reference("principal", &r.principal)?;
        let mut tx = self.db.begin(&ctx).await?;
        let customer = tx.get_for_update::<Customer>(id.uuid()).await?;
        let share = tx.unshare(&customer, principal.uuid()).await?;
        tx.emit(&customer, &pb::CustomerUnshared { id: r.id, share: Some(encode_share(&share)) })?;
        Ok(tx.commit(()).await?)
    }
}

/// Brings a deleted customer back, unless what it had belongs to another one by now.
async fn undelete(tx: &mut TenantTx, id: Id<Customer>, etag: Etag) -> Result<Customer, Error> {
    let before = tx.get_for_update_even_deleted::<Customer>(id.uuid()).await?;
    etag.matches(&before)?;
    if before.delete_time.is_none() {
        return Err(Error::rule("NOT_DELETED", format!("customer `{id}` is not deleted")));
    }
    if before.erase_time.is_some() {
        return Err(Error::rule("CUSTOMER_ERASED", format!("customer `{id}` was erased, and stays so")));
    }
    let after = before.followed_by(tx.ctx(), Customer { delete_time: None, ..before.clone() });
    if let Some(error) = tx.conflicts(&[&after], &[]).await?.into_iter().flatten().next() {
        return Err(error);
    }
    batch::save(tx, &before, &after)?;
    Ok(after)
}

/// Moves customers to another owner: all, or none.
async fn assign(tx: &mut TenantTx, r: &pb::AssignCustomersRequest) -> Result<Vec<Customer>, Error> {
    let owner = Id::<User>::parse_reference("owner", &r.owner)?;
    let unit = super::decode::reference("unit", &r.unit)?;
    let ids = r.ids.iter().map(|id| Id::<Customer>::parse("ids", id)).collect::<Result<Vec<_>, _>>()?;
    let unit = match unit {
        Some(unit) => Some(unit),
        None => tx.unit_of(owner.uuid()).await?.map(Id::new),
    };
    let held = tx.lock_many::<Customer>(&ids.iter().map(|id| id.uuid()).collect::<Vec<_>>()).await?;
    let mut moved = Vec::with_capacity(ids.len());
    for id in ids {
        let found = held.iter().find(|held| held.record.id == id && held.record.delete_time.is_none());
        let found = found.ok_or_else(|| Error::not_found(Customer::NAME, id))?;
        found.may_change(tx.ctx())?;
        let before = &found.record;
        let changed = Customer { owner_id: Some(owner), unit_id: unit.or(before.unit_id), ..before.clone() };
        let after = before.followed_by(tx.ctx(), changed);
        batch::save(tx, before, &after)?;
        moved.push(after);
    }
    Ok(moved)
}

fn create(r: pb::CreateCustomerRequest) -> Result<Op, Error> {
    Ok(Op::Create(r.customer.ok_or_else(|| Error::invalid("customer", "must be given"))?))
}

fn update(r: pb::UpdateCustomerRequest) -> Result<Op, Error> {
    Ok(Op::Update(r.customer.ok_or_else(|| Error::invalid("customer", "must be given"))?, r.update_mask))
}

fn upsert(r: pb::UpsertCustomerRequest) -> Result<Op, Error> {
    let key = ExternalId { source: r.source, external_id: r.external_id };
    Ok(Op::Upsert(key, r.customer.ok_or_else(|| Error::invalid("customer", "must be given"))?, r.update_mask))
}

fn op(change: pb::CustomerChange) -> Result<Op, Error> {
    match change.change {
        Some(Change::Create(r)) => create(*r),
        Some(Change::Update(r)) => update(*r),
        Some(Change::Upsert(r)) => upsert(*r),
        Some(Change::Delete(r)) => Ok(Op::Delete(r.id, r.etag)),
        None => Err(Error::invalid("changes", "each must have a create, update, upsert or delete")),
    }
}

/// The result of a batch of one.
fn one<T>(results: Vec<Result<T, Error>>) -> Result<T, Error> {
    results.into_iter().next().unwrap_or_else(|| Err(Error::internal("a change without a result")))
}

fn encode_result(tx: &TenantTx, result: Result<Customer, Error>) -> pb::CustomerResult {
    let result = match result {
        Ok(customer) => customer_result::Result::Customer(Box::new(customer.seen_by(tx))),
        Err(error) => customer_result::Result::Error(rpc::Status::from(Status::from(error))),
    };
    pb::CustomerResult { result: Some(result) }
}

fn encode_share(share: &Share) -> types::Share {
    let level = match share.level {
        ShareLevel::Read => types::ShareLevel::Read,
        ShareLevel::Write => types::ShareLevel::Write,
    };
    types::Share { principal: Id::<User>::new(share.principal).name(), level: level.into() }
}

fn decode_share(share: &types::Share) -> Result<Share, Error> {
    let principal = Id::<User>::parse_reference("share.principal", &share.principal)?.uuid();
    let level = match types::ShareLevel::try_from(share.level) {
        Ok(types::ShareLevel::Write) => ShareLevel::Write,
        _ => ShareLevel::Read,
    };
    Ok(Share { principal, level })
}
