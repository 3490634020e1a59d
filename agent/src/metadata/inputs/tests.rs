use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::*;
use crate::metadata::fixtures::Directory;

fn served(directory: &Directory) -> Vec<u8> {
    let mut out = Vec::new();
    serve_from(directory.path(), &directory.path().join("labels"), &mut out).unwrap();
    out
}

/// A pull from a socket on which `says` is written.
async fn pulled(says: Vec<u8>) -> Result<Delivered, String> {
    let directory = Directory::new();
    let path = directory.path().join("inputs.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Fails where the other end has had enough.
        let _ = stream.write_all(&says).await;
    };
    let (result, ()) = tokio::join!(pull(&path), server);
    result
}

#[test]
fn every_file_has_an_entry_and_one_that_is_not_there_is_absent() {
    let directory = Directory::new();
    directory.write("kernel-command-line", "hello");
    directory.write("product-serial", "vmagent:absent\n");
    directory.write("product-uuid", vec![b'x'; (1 << 20) + 1]);
    std::fs::create_dir(directory.path().join("chassis-serial")).unwrap();
    let value: Value = serde_json::from_slice(&served(&directory)).unwrap();
    let on_disks: usize = volumes::VOLUMES.iter().map(|(_, files)| files.len()).sum();
    assert_eq!(value.as_object().unwrap().len(), FILES.len() + on_disks);
    assert_eq!(
        value["kernel-command-line"],
        json!({"state": "present", "base64": "aGVsbG8="})
    );
    assert_eq!(value["product-serial"], json!({"state": "absent"}));
    assert_eq!(value["board-serial"], json!({"state": "absent"}));
    assert_eq!(value["product-uuid"]["state"], "failed");
    let problem = value["chassis-serial"]["problem"].as_str().unwrap();
    assert!(problem.contains("not a regular file"), "{problem}");
}

#[tokio::test]
async fn what_is_served_is_what_is_pulled() {
    let directory = Directory::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_003).collect();
    directory.write("kernel-command-line", &bytes);
    directory.write("product-serial", "");
    std::fs::create_dir(directory.path().join("chassis-serial")).unwrap();
    let delivered = pulled(served(&directory)).await.ok().unwrap();
    assert_eq!(
        delivered
            .get("kernel-command-line")
            .unwrap()
            .unwrap()
            .as_slice(),
        bytes
    );
    assert_eq!(
        delivered.get("product-serial").unwrap().unwrap().as_slice(),
        b""
    );
    assert_eq!(delivered.get("board-serial"), Ok(None));
    assert!(delivered.get("chassis-serial").is_err());
    assert!(delivered.get("something else").is_err());
}

#[tokio::test]
async fn what_can_not_be_pulled_is_named() {
    let nobody = pull(Path::new("/nonexistent/socket")).await.err().unwrap();
    assert!(
        nobody.contains("/nonexistent/socket does not serve"),
        "{nobody}"
    );
    let silent = pulled(Vec::new()).await.err().unwrap();
    assert!(silent.contains("ended without a word"), "{silent}");
    let garbled = pulled(b"{\"hunter2\": 1}".to_vec()).await.err().unwrap();
    assert!(
        garbled.contains("something else") && !garbled.contains("hunter2"),
        "{garbled}"
    );
    let large = pulled(vec![b' '; LIMIT + 1]).await.err().unwrap();
    assert!(large.contains("more than 6291456 bytes"), "{large}");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_says_nothing_is_not_waited_for() {
    let directory = Directory::new();
    let path = directory.path().join("inputs.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let silent = pull(&path).await.err().unwrap();
    assert!(silent.contains("did not end within 5 s"), "{silent}");
}

#[tokio::test]
async fn what_is_on_a_labelled_disk_is_passed_on() {
    let disk = include_bytes!("../volume/fixtures/both.iso.gz");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::GzDecoder::new(&disk[..]), &mut bytes)
        .unwrap();
    let directory = Directory::new();
    directory.write("sr0", &bytes);
    directory.write("labels/config-2", "no file system at all");
    std::os::unix::fs::symlink("../sr0", directory.path().join("labels/CIDATA")).unwrap();
    let delivered = pulled(served(&directory)).await.ok().unwrap();
    let meta_data = delivered.get("cidata:meta-data").unwrap().unwrap();
    assert_eq!(meta_data.as_slice(), b"instance-id: i-1\n");
    assert_eq!(delivered.get("cidata:vendor-data"), Ok(None));
    let problem = delivered
        .get("config-2:openstack/latest/user_data")
        .unwrap_err();
    assert!(problem.contains("neither ISO 9660 nor FAT"), "{problem}");
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hold_up_the_rest() {
    let directory = Directory::new();
    directory.write("kernel-command-line", "hello");
    std::fs::create_dir(directory.path().join("labels")).unwrap();
    // Opening it for reading waits for somebody who writes.
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&directory.path().join("labels/cidata"), mode).unwrap();
    let delivered = pulled(served(&directory)).await.ok().unwrap();
    let problem = delivered.get("cidata:user-data").unwrap_err();
    assert!(problem.contains("does not answer within 3 s"), "{problem}");
    let file = delivered.get("kernel-command-line").unwrap().unwrap();
    assert_eq!(file.as_slice(), b"hello");
}

#[tokio::test]
async fn a_file_is_asked_for_again_where_its_unit_was_busy() {
    let directory = Directory::new();
    directory.write("file", "hello");
    let mut says = Vec::new();
    serve_file(directory.path(), &mut says).unwrap();
    for (busy, expected) in [(TRIES - 1, true), (TRIES, false)] {
        let sockets = Directory::new();
        let socket = sockets.path().join("tunnel.yaml");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = async {
            for _ in 0..busy {
                drop(listener.accept().await.unwrap());
            }
            if expected {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(&says).await.unwrap();
            }
        };
        let pulled = pull_file(sockets.path(), Path::new("/tunnel.yaml"));
        let (pulled, ()) = tokio::join!(pulled, server);
        match (pulled, expected) {
            (Ok(Some(bytes)), true) => assert_eq!(bytes.as_slice(), b"hello"),
            (Err(problem), false) => assert!(problem.contains("without a word"), "{problem}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_hangs_up_on_it_does_it_no_harm() {
    let directory = Directory::new();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    let labels = directory.path().join("labels");
    serve_from(directory.path(), &labels, &mut ours).unwrap();
}
