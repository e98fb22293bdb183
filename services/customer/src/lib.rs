#![doc = include_str!("../README.md")]

mod customer;
mod fields;
mod imports;
mod reactions;

use rapport_blobs::Blobs;
use rapport_events::{Audience, Events, Snapshots, consume::Producer};
use rapport_import::{Import, Imports};
use rapport_kernel::Clock;
use rapport_proto::customer::v1::{
    customer_service_server::CustomerServiceServer, field_service_server::FieldServiceServer,
    import_service_server::ImportServiceServer,
};
use rapport_runtime::{
    health::ReadyCheck,
    parts::{Parts, Worker},
};
use rapport_store::{Db, Sabotage, Step, audit::Audit, fields::Definition, keep_house};
use tonic::service::Routes;

pub use customer::{Customer, CustomerApi, CustomerImports};

/// The schema of this service, step by step: that of imports, and its own.
pub const MIGRATIONS: &[&[Step]] = &[
    rapport_events::MIGRATIONS,
    rapport_import::MIGRATIONS,
    &[
        (1000, "customers", include_str!("../migrations/1000_customers.sql")),
        (1001, "customer units", include_str!("../migrations/1001_customer_units.sql")),
        (1002, "customer erasure", include_str!("../migrations/1002_customer_erasure.sql")),
        (1003, "customer units", include_str!("../migrations/1003_customer_units.sql")),
    ],
];

/// What the service needs from whoever starts it.
#[derive(Clone)]
pub struct Env {
    /// Its database, signed in as `rapport_customer`.
    pub db: Db,
    /// Where files are kept.
    pub blobs: Blobs,
    /// The clock.
    pub clock: Clock,
    /// How imports are worked on.
    pub imports: rapport_import::Options,
    /// The bus, and how long the log is kept.
    pub events: rapport_events::Settings,
    /// Identity's log: who belongs to which unit.
    pub identity: Producer,
    /// For tests: a promise to break.
    pub sabotage: Sabotage,
}

/// What its database may have beside what every service's has.
pub fn audit() -> Audit {
    let audit = rapport_events::audit(rapport_import::audit());
    audit.definer("search_customers").resource::<Customer>()
}

/// The service's parts.
pub fn parts(env: Env) -> Parts {
    let Env { db, blobs, clock, imports, events, identity, sabotage } = env;
    let db = db.with::<Customer>().sabotaged(sabotage);
    let imports = Imports::new(db.clone(), blobs, clock.clone(), imports).join(CustomerImports);
    let events = Events::of("customer", &db, &events, &clock)
        .told_to(audience())
        .shows(Snapshots::default().of::<Customer, _>(|tx, customer| customer.told(tx)))
        .hears(identity, reactions::reactions());
    let parts = Parts {
        name: "customer",
        routes: Routes::new(CustomerServiceServer::new(CustomerApi::new(db.clone())))
            .add_service(FieldServiceServer::new(fields::FieldApi { db: db.clone() }))
            .add_service(ImportServiceServer::new(imports::ImportApi(imports.clone()))),
        workers: vec![housekeeping(db.clone(), clock), importing(imports)],
        ready: vec![ReadyCheck::new("customer database", move || {
            let db = db.clone();
            async move { Ok(db.ping().await?) }
        })],
        ending: Default::default(),
    };
    events.join(parts)
}

/// Who hears of what happens here.
fn audience() -> Audience {
    Audience::of("customer")
        .seers_of::<Customer>()
        .holders_of::<Definition>("customer.fields.read")
        .holders_of::<Import>("customer.customers.import")
}

fn housekeeping(db: Db, clock: Clock) -> Worker {
    Worker::new("customer housekeeping", move |stop| {
        let (db, clock) = (db.clone(), clock.clone());
        async move {
            let kept = stop.run_until_cancelled(keep_house(&db, &clock, fields::RESOURCES)).await;
            Ok(kept.unwrap_or(Ok(()))?)
        }
    })
}

fn importing(imports: Imports) -> Worker {
    Worker::new("customer imports", move |stop| {
        let imports = imports.clone();
        async move {
            imports.work(stop).await;
            Ok(())
        }
    })
}
