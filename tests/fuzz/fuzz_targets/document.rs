//! The parser of the tunnel document, JSON and YAML.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmagent::metadata::document::{Carrier, Parsed, parse};
use vmagent_fuzz::discreet;

fuzz_target!(|bytes: &[u8]| {
    let (own, shared) = (parse(bytes, Carrier::Own), parse(bytes, Carrier::Shared));
    for parsed in [&own, &shared] {
        if let Err(fault) = parsed {
            discreet(fault);
        }
    }
    // What is found among other things is found alone as well.
    if let Ok(Parsed::Document(_)) = &shared {
        assert_eq!(own, shared);
    }
});
