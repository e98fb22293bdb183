//! A call ends in time: the caller's (`grpc-timeout`) or the configured one, whichever is shorter. The caller gets
//! DEADLINE_EXCEEDED; a handler that began goes on in its own task and ends by itself, since its statements have time
//! limits of their own, and half a transaction is worse than a late one.
use std::time::Duration;

use http::HeaderMap;
use rapport_kernel::Error;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{Next, Request, Response, Step, method, refuse};

#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    /// For a unary call whose caller does not say.
    pub(crate) default: Duration,
    /// For a unary call at most.
    pub(crate) most: Duration,
    /// For a stream, said or not.
    pub(crate) stream: Duration,
}

/// When a call has to be over. A stream's response goes on after the deadline layer, so it looks here.
#[derive(Clone, Copy)]
pub(crate) struct Until(pub(crate) Instant);

impl Step for Deadline {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let streams = method(&request).is_some_and(super::streams::streams);
        let (default, most) = if streams { (self.stream, self.stream) } else { (self.default, self.most) };
        let time = match asked(request.headers()) {
            Ok(asked) => asked.unwrap_or(default).min(most),
            Err(error) => return refuse(error),
        };
        let until = Instant::now() + time;
        request.extensions_mut().insert(Until(until));
        timeout_at(until, next.run(request)).await.unwrap_or_else(|_| refuse(exceeded(time)))
    }
}

pub(crate) fn exceeded(time: Duration) -> Status {
    Status::deadline_exceeded(format!("not done within {time:?}"))
}

/// What the caller asks for: up to eight digits and a unit.
fn asked(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(header) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let read = |text: &str| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if number.is_empty() || number.len() > 8 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    match header.to_str().ok().and_then(read) {
        Some(time) => Ok(Some(time)),
        None => Err(Error::invalid("grpc-timeout", "is not a time like `500m` or `30S`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            asked(&headers)
        };
        assert_eq!(asked("500m").unwrap(), Some(Duration::from_millis(500)));
        assert_eq!(asked("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(asked("7u").unwrap(), Some(Duration::from_micros(7)));
        for wrong in ["", "m", "5", "5s", "-5S", "123456789S", "1.5S", " 5S"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
        assert_eq!(super::asked(&HeaderMap::new()).unwrap(), None);
    }
}
