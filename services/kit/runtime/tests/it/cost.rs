//! What the layers cost.
use std::time::{Duration, Instant};

use rapport_proto::identity::v1::{
    unit_service_client::UnitServiceClient, unit_service_server::UnitServiceServer,
};
use tonic::{Request, service::Routes};

use crate::world::{Answers, World, create};

/// The time of one call in process, the best of some tries: others use the machine, too.
async fn time(mut call: impl AsyncFnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        for _ in 0..200 {
            call().await;
        }
        best = best.min(began.elapsed() / 200);
    }
    best
}

#[tokio::test]
async fn the_layers_cost_little() {
    let answers = Answers::create(async |_, request| Ok(request.unit.unwrap_or_default()));
    let world = World::start(answers.clone()).await;
    let metadata = world.signed(()).metadata().clone();
    let mut inside = UnitServiceClient::new(world.upstream.clone());
    let layered = time(async || {
        let mut request = Request::new(create("sales", "r-1"));
        *request.metadata_mut() = metadata.clone();
        inside.create_unit(request).await.unwrap();
    })
    .await;
    let mut bare = UnitServiceClient::new(Routes::new(UnitServiceServer::new(answers)));
    let ctx = rapport_kernel::Ctx::system(world.claims().tenant, rapport_kernel::Clock::system());
    let plain = time(async || {
        let mut request = Request::new(create("sales", "r-1"));
        request.extensions_mut().insert(ctx.clone());
        bare.create_unit(request).await.unwrap();
    })
    .await;
    println!("a call in process: {plain:?} without layers, {layered:?} with them");
    assert!(layered < Duration::from_millis(5), "{layered:?}");
}
