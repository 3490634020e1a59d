use std::io::Cursor;
use std::sync::LazyLock;

use flate2::bufread::GzDecoder;
use proptest::prelude::*;

use super::*;

/// Disks as genisoimage and mkfs.vfat write them, with the same files in them.
const DISKS: [(&str, &[u8]); 7] = [
    (
        "Joliet and Rock Ridge",
        include_bytes!("fixtures/both.iso.gz"),
    ),
    ("Rock Ridge", include_bytes!("fixtures/rock.iso.gz")),
    ("Joliet", include_bytes!("fixtures/joliet.iso.gz")),
    ("ISO 9660:1999", include_bytes!("fixtures/plain.iso.gz")),
    ("FAT12", include_bytes!("fixtures/fat12.img.gz")),
    ("FAT16", include_bytes!("fixtures/fat16.img.gz")),
    ("FAT32", include_bytes!("fixtures/fat32.img.gz")),
];

const FILES: [&str; 4] = [
    "user-data",
    "meta-data",
    "empty",
    "openstack/latest/vendor_data2.json",
];

static UNPACKED: LazyLock<[Vec<u8>; 7]> = LazyLock::new(|| {
    DISKS.map(|(_, packed)| {
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    })
});

/// Looks for everything, and returns how often something was found.
fn look(disk: &[u8]) -> Result<usize, VolumeFault> {
    let mut volume = Volume::open(Cursor::new(disk))?;
    let mut found = 0;
    for file in FILES {
        found += usize::from(volume.file(file)?.is_some());
    }
    Ok(found)
}

#[test]
fn files_are_read_from_each_kind_of_disk() {
    let mut text = "#cloud-config\n".to_owned();
    text.extend((0..600).map(|line| format!("# line {line}\n")));
    for ((kind, _), disk) in DISKS.iter().zip(&*UNPACKED) {
        let mut volume = Volume::open(Cursor::new(disk)).unwrap();
        let mut file = |path: &str| {
            let bytes = volume.file(path).unwrap();
            bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(file("user-data").as_deref(), Some(text.as_str()), "{kind}");
        assert_eq!(
            file("META-DATA").as_deref(),
            Some("instance-id: i-1\n"),
            "{kind}"
        );
        assert_eq!(file("empty").as_deref(), Some(""), "{kind}");
        let nested = file("openstack/latest/vendor_data2.json");
        assert_eq!(nested.as_deref(), Some("{\"vmagent\": {}}"), "{kind}");
        for none in [
            "vendor-data",
            "user",
            "user-data2",
            "openstack",
            "user-data/x",
            "",
            "filler",
        ] {
            assert_eq!(file(none), None, "{kind}: {none}");
        }
    }
}

#[test]
fn another_disk_is_said_to_be_one() {
    for disk in [vec![], vec![0; 100], vec![0; 1 << 20], vec![0xff; 1 << 20]] {
        let fault = Volume::open(Cursor::new(disk)).err().unwrap();
        assert!(matches!(fault, VolumeFault::Unknown), "{fault}");
    }
}

#[test]
fn a_disk_that_was_cut_off_is_damaged() {
    for ((kind, _), whole) in DISKS.iter().zip(&*UNPACKED) {
        // Behind the directories, in front of the files; FAT has its free space at the end.
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let fault = look(&whole[..used - 3000]).unwrap_err();
        assert!(matches!(fault, VolumeFault::Damaged(_)), "{kind}: {fault}");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mut disk = UNPACKED[4].clone();
    let name = b"USER-D~1";
    let entry = disk.windows(8).position(|bytes| bytes == name).unwrap();
    disk[entry + 28..entry + 32].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(look(&disk), Err(VolumeFault::TooLarge)));
}

#[test]
fn a_chain_that_leads_back_to_itself_ends() {
    let mut disk = UNPACKED[5].clone();
    // FAT16: each cluster of the first table is followed by cluster 3.
    let table = usize::from(le16(&disk, 14)) * usize::from(le16(&disk, 11));
    for entry in 2..2000 {
        disk[table + entry * 2..table + entry * 2 + 2].copy_from_slice(&[3, 0]);
    }
    let mut volume = Volume::open(Cursor::new(disk)).unwrap();
    let directory = volume.file("openstack/latest/nothing");
    assert!(matches!(directory, Err(VolumeFault::TooLarge)));
}

proptest! {
    #[test]
    fn no_damage_breaks_it(
        which in 0..DISKS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let mut disk = UNPACKED[which].clone();
        // Where the structures are: files and free space are behind.
        let start = if which < 4 { 16 * 2048 } else { 0 };
        let end = disk.len().min(start + (20 << 10));
        for (at, byte) in damage {
            let at = start + at.index(end - start);
            disk[at] = byte;
        }
        let _ = look(&disk);
    }
}
