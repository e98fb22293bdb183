//! Streams last as long as the other side likes, so they take no place in the fair queue; each tenant may have only so
//! many of them at a time.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rapport_kernel::Error;
use rapport_proto::Method;

use super::fair_queue::Lane;

/// Whether one side of the call sends more than one message.
pub(super) fn streams(method: &Method) -> bool {
    method.descriptor.is_client_streaming() || method.descriptor.is_server_streaming()
}

/// The open streams of each tenant.
#[derive(Clone)]
pub(super) struct Streams {
    most: usize,
    open: Arc<Mutex<HashMap<Lane, usize>>>,
}

impl Streams {
    /// At most `most` for each tenant.
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Opens one more, until the guard is dropped.
    pub(super) fn open(&self, lane: Lane) -> Result<Open, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(lane).or_default();
        if *count >= self.most {
            let message =
                format!("{} streams of this tenant are open, and more are not served at a time", self.most);
            return Err(Error::Exhausted { message, retry_after: 5 });
        }
        *count += 1;
        Ok(Open { lane, open: self.open.clone() })
    }
}

/// An open stream.
pub(super) struct Open {
    lane: Lane,
    open: Arc<Mutex<HashMap<Lane, usize>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.lane) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_own_streams() {
        let (streams, a, b) = (Streams::new(2), Lane::Operators, Lane::Anonymous);
        let first = streams.open(a).unwrap();
        let _second = streams.open(a).unwrap();
        assert!(streams.open(a).is_err());
        let _other = streams.open(b).unwrap();
        drop(first);
        let _third = streams.open(a).unwrap();
        assert_eq!(streams.open.lock().unwrap().len(), 2);
    }
}
