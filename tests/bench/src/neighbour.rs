//! A tenant's neighbour: what the people of tenant B see while tenant A brings in 200,000 rows, against a quiet machine.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rapport_proto::customer::v1::{
    CreateCustomerRequest, Customer, GetCustomerRequest, ListCustomersRequest, SearchCustomersRequest,
};
use rapport_test_kit::{Tenant, World, telco};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    figure::{Aim, Figure},
    import,
    load::times,
};

const ROWS: usize = 200_000;
/// Customers that B has already.
const KNOWN: usize = 7_043;
/// People of B who work at once, and their pause between two calls.
const PEOPLE: u64 = 8;
const PAUSE: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(20);

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let (a, b) = (world.tenant("importer").await, world.tenant("neighbour").await);
    for tenant in [&a, &b] {
        telco::define_fields(tenant).await;
    }
    let import = import::uploaded(&b, KNOWN).await;
    telco::work(&b, &import, "start").await;
    let import = import::uploaded(&a, ROWS).await;

    // Whatever is made at the first call is made.
    people_work(&world, &b, sleep(Duration::from_secs(3))).await;
    let quiet = people_work(&world, &b, sleep(QUIET)).await;
    let begun = Instant::now();
    let busy = people_work(&world, &b, async {
        let done = telco::work(&a, &import, "start").await;
        assert_eq!(done["progress"]["created"], ROWS.to_string(), "{done}");
    })
    .await;
    let rows = ROWS as f64 / begun.elapsed().as_secs_f64();
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1_000.0;
    let name = "tenant B while A imports 200,000 rows, against quiet, p99";
    let mut figures = vec![Figure::ratio(name, "ms", p99(&busy.all()), p99(&quiet.all()), Aim::AtMost(1.5))];
    for (call, (busy, quiet)) in CALLS.iter().zip(busy.0.iter().zip(&quiet.0)) {
        figures.push(Figure::ratio(&format!("— of {call}"), "ms", p99(busy), p99(quiet), Aim::None));
    }
    figures.push(Figure::plain("A's import meanwhile", "rows/s", rows, Aim::None));
    figures
}

/// What people call, in the order of [`Took`].
const CALLS: [&str; 4] = ["create", "list", "search", "get"];

/// What each kind of call took, in microseconds.
struct Took([Histogram<u64>; 4]);

impl Took {
    fn new() -> Self {
        Self([times(), times(), times(), times()])
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| ours.add(theirs).unwrap());
    }

    fn all(&self) -> Histogram<u64> {
        let mut all = times();
        self.0.iter().for_each(|took| all.add(took).unwrap());
        all
    }
}

/// The people of a tenant read, list, search and create for as long as `meanwhile` takes.
async fn people_work(world: &World, tenant: &Tenant, meanwhile: impl Future<Output = ()>) -> Took {
    let stop = Arc::new(AtomicBool::new(false));
    let list = ListCustomersRequest { page_size: 200, ..ListCustomersRequest::default() };
    let listed =
        tenant.renewed().await.customers().list_customers(list).await.unwrap().into_inner().customers;
    let ids: Arc<[String]> = listed.into_iter().map(|customer| customer.id).collect();
    let mut people = JoinSet::new();
    for person in 0..PEOPLE {
        let (caller, url, ids, stop) = ((**tenant).clone(), world.grpc_url(), ids.clone(), stop.clone());
        people.spawn(async move {
            let mut customers = caller.renewed().await.customers_at(&url);
            let mut seen = Took::new();
            let mut n = person;
            // Not all at once.
            sleep(PAUSE * person as u32 / PEOPLE as u32).await;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let kind = (n as usize % 10).min(3);
                match kind {
                    0 => drop(customers.create_customer(create(n)).await.unwrap()),
                    1 => drop(customers.list_customers(list_of_50()).await.unwrap()),
                    2 => drop(customers.search_customers(search()).await.unwrap()),
                    _ => {
                        let id = ids[n as usize % ids.len()].clone();
                        drop(customers.get_customer(GetCustomerRequest { id }).await.unwrap());
                    }
                }
                seen.0[kind].record(begun.elapsed().as_micros() as u64).unwrap();
                n += 1;
                if n % 100 == person {
                    customers = caller.renewed().await.customers_at(&url);
                }
                sleep(PAUSE).await;
            }
            seen
        });
    }
    meanwhile.await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Took::new();
    while let Some(seen) = people.join_next().await {
        all.add(&seen.unwrap());
    }
    all
}

fn create(n: u64) -> CreateCustomerRequest {
    let customer = Customer { display_name: format!("Harbour Supplies {n}"), ..Customer::default() };
    CreateCustomerRequest { customer: Some(customer), ..CreateCustomerRequest::default() }
}

fn list_of_50() -> ListCustomersRequest {
    ListCustomersRequest {
        filter: "attributes.churn".into(),
        order_by: "attributes.monthlyCharges desc".into(),
        page_size: 50,
        ..ListCustomersRequest::default()
    }
}

fn search() -> SearchCustomersRequest {
    SearchCustomersRequest { query: "7590".into(), ..SearchCustomersRequest::default() }
}
