//! The readers of ISO 9660 and FAT. The first byte says whether the 32 KiB come first that
//! ISO 9660 leaves to others.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use vmagent::metadata::volume::Volume;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let mut disk = vec![0; if *first == b'i' { 32 << 10 } else { 0 }];
    disk.extend_from_slice(rest);
    if let Ok(mut volume) = Volume::open(Cursor::new(disk)) {
        for file in ["user-data", "openstack/latest/meta_data.json", "a/b"] {
            let _ = volume.file(file);
        }
    }
});
