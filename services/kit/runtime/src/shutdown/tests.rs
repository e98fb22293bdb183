use std::sync::{Arc, Mutex};

use futures::stream;
use tokio::time::{Instant, sleep};

use super::*;

type Log = Arc<Mutex<Vec<&'static str>>>;

/// A task of `stage` that takes `seconds` to end.
fn slow(shutdown: &mut Shutdown, stage: Stage, log: &Log, name: &'static str, seconds: u64) {
    let log = log.clone();
    shutdown.run(stage, move |token| async move {
        token.cancelled().await;
        sleep(Duration::from_secs(seconds)).await;
        log.lock().unwrap().push(name);
        Ok(())
    });
}

/// Signals that come so many seconds after the one before.
fn signals(seconds: &[u64]) -> impl Stream<Item = ()> + Unpin + use<> {
    let signals = stream::iter(seconds.to_vec()).then(|pause| sleep(Duration::from_secs(pause)));
    Box::pin(signals.chain(stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn groups_end_one_after_the_other() {
    let (mut shutdown, log) = (Shutdown::new(), Log::default());
    let closed = log.clone();
    shutdown.on(Stage::Closing, move || async move { closed.lock().unwrap().push("pool") });
    slow(&mut shutdown, Stage::Working, &log, "worker", 1);
    slow(&mut shutdown, Stage::Serving, &log, "slow server", 5);
    slow(&mut shutdown, Stage::Serving, &log, "server", 2);
    let ending = shutdown.wait_for(signals(&[10])).await;
    assert!(matches!(ending, Ending::Orderly));
    assert_eq!(*log.lock().unwrap(), ["server", "slow server", "worker", "pool"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_or_a_minute_ends_it_at_once() {
    for (given, ends_after) in [(&[0, 3][..], 3), (&[0], 60)] {
        let (mut shutdown, log, began) = (Shutdown::new(), Log::default(), Instant::now());
        slow(&mut shutdown, Stage::Serving, &log, "server", 3600);
        let ending = shutdown.wait_for(signals(given)).await;
        assert!(matches!(ending, Ending::Forced));
        assert_eq!(began.elapsed().as_secs(), ends_after);
        assert!(log.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_ends_everything_in_order() {
    let (mut shutdown, log) = (Shutdown::new(), Log::default());
    slow(&mut shutdown, Stage::Working, &log, "worker", 1);
    shutdown.run(Stage::Serving, |_| async { Err("the address is taken".into()) });
    shutdown.run(Stage::Serving, |_| async { Ok(()) });
    let ending = shutdown.wait_for(signals(&[])).await;
    assert!(matches!(ending, Ending::Failed(error) if error.to_string() == "the address is taken"));
    assert_eq!(*log.lock().unwrap(), ["worker"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_done_ends_nothing() {
    let (mut shutdown, log) = (Shutdown::new(), Log::default());
    shutdown.run(Stage::Working, |_| async { Ok(()) });
    slow(&mut shutdown, Stage::Serving, &log, "server", 1);
    let began = Instant::now();
    assert!(matches!(shutdown.wait_for(signals(&[30])).await, Ending::Orderly));
    assert_eq!(began.elapsed().as_secs(), 31);
}

#[tokio::test]
async fn the_usual_signals_are_heard() {
    use nix::{sys::signal as unix, unistd::Pid};
    // From here on neither of them kills this process, whoever listens.
    let _installed = (signal(SignalKind::terminate()).unwrap(), signal(SignalKind::interrupt()).unwrap());
    for sent in [unix::SIGTERM, unix::SIGINT] {
        let waiting = tokio::spawn(Shutdown::new().wait());
        while !waiting.is_finished() {
            unix::kill(Pid::this(), sent).unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        assert!(matches!(waiting.await.unwrap().unwrap(), Ending::Orderly));
    }
}
