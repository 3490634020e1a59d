//! One of those that are compared, running.

use std::any::Any;
use std::time::Duration;

use harness::failure::{Failure, Result};

use crate::cost::{Group, Memory};

/// A peer that serves. It ends when this is dropped.
pub struct Peer {
    /// Its name in the tables.
    pub name: &'static str,
    /// Where it is loaded.
    pub endpoint: String,
    /// What its processes run in; nothing if it is the load's own server.
    pub group: Option<Group>,
    /// The connections that it takes at a time.
    pub most: usize,
    /// What ends with it.
    pub parts: Vec<Box<dyn Any>>,
}

impl Peer {
    /// Memory of all its processes.
    ///
    /// # Errors
    ///
    /// If it has none of its own.
    pub fn memory(&self) -> Result<Memory> {
        self.group()?.memory()
    }

    /// Processor time of all its processes; none if it has none of its own.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn processor(&self) -> Result<Duration> {
        self.group
            .as_ref()
            .map_or(Ok(Duration::ZERO), Group::processor)
    }

    fn group(&self) -> Result<&Group> {
        let missing = || Failure::new(format!("{} has no processes of its own", self.name));
        self.group.as_ref().ok_or_else(missing)
    }
}
