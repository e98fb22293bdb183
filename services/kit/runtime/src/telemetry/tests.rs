use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);
impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What one event inside a call's span looks like.
fn logged(format: LogFormat) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::registry().with(logs(format, move || writer.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("request", rpc.method = "/m", tenant.id = tracing::field::Empty);
        span.record("tenant.id", "0190");
        let _entered = (span.entered(), tracing::info_span!("within").entered());
        tracing::info!(customer.id = 7, "created");
    });
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_json_line_names_the_tenant() {
    let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
    assert_eq!(
        (&line["message"], &line["customer.id"], &line["level"]),
        (&"created".into(), &7.into(), &"INFO".into())
    );
    assert_eq!(
        (&line["spans"][0]["tenant.id"], &line["spans"][0]["rpc.method"]),
        (&"0190".into(), &"/m".into())
    );
}

#[test]
fn a_text_line_names_the_tenant() {
    let line = logged(LogFormat::Text);
    assert!(
        line.contains("request{rpc.method=\"/m\" tenant.id=\"0190\"}") && line.contains("created"),
        "{line}"
    );
}

#[test]
fn the_process_knows_its_memory() {
    assert!(resident_memory().is_some_and(|bytes| bytes > 1e6 && bytes < 1e12));
}

#[test]
fn a_wrong_filter_is_refused_by_its_name() {
    let config = config::Telemetry { log_filter: "info,=,".into(), ..config::Telemetry::default() };
    assert!(init(&config, "test").unwrap_err().to_string().starts_with("telemetry.log_filter: "));
}
