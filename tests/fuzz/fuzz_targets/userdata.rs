//! The decoder of user-data: base64, gzip, MIME, archives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmagent::metadata::reading::Reading;
use vmagent::metadata::userdata;
use vmagent_fuzz::discreet;

fuzz_target!(|bytes: &[u8]| {
    if let Reading::Failed(fault) = userdata::read("user-data", bytes) {
        discreet(&fault);
    }
});
