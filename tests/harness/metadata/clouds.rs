//! What the clouds answer, by their public documents.

use serde_json::json;

use super::{Metadata, lock};
use crate::seed::base64;

/// The address that every cloud names as this guest's own.
pub const PUBLIC_ADDRESS: &str = "198.51.100.7";

/// Where Azure has user data; with its query, as it is asked for.
const AZURE_USER_DATA: &str =
    "/metadata/instance/compute/userData?api-version=2021-02-01&format=text";

impl Metadata {
    /// Answers GCE's questions, with this attribute `vmagent` or without one
    /// (cloud.google.com/compute/docs/metadata/querying-metadata).
    pub fn gce(&self, instance_id: &str, attribute: Option<&str>) {
        const INSTANCE: &str = "/computeMetadata/v1/instance";
        self.demand("metadata-flavor: google");
        let page = |path: &str, text: &str| self.page(&format!("{INSTANCE}/{path}"), text);
        page("id", instance_id);
        let address = "network-interfaces/0/access-configs/0/external-ip";
        page(address, PUBLIC_ADDRESS);
        if let Some(attribute) = attribute {
            page("attributes/vmagent", attribute);
        }
        // Last: whoever waits for it looks for the attribute then.
        let all = attribute.map_or(json!({}), |text| json!({"vmagent": text}));
        page("attributes/?recursive=true&alt=json", &all.to_string());
    }

    /// Answers Azure's questions, with this user data
    /// (learn.microsoft.com/azure/virtual-machines/instance-metadata-service).
    pub fn azure(&self, instance_id: &str, user_data: &str) {
        self.demand("metadata: true");
        self.page(AZURE_USER_DATA, &base64(user_data.as_bytes()));
        let address = json!({"privateIpAddress": "10.1.0.4", "publicIpAddress": PUBLIC_ADDRESS});
        let instance = json!({
            "compute": {"vmId": instance_id},
            "network": {"interface": [{"ipv4": {"ipAddress": [address]}}]},
        });
        self.page(
            "/metadata/instance?api-version=2021-02-01",
            &instance.to_string(),
        );
    }

    /// Answers Hetzner's questions, with this user data (docs.hetzner.cloud, "Server metadata").
    pub fn hetzner(&self, instance_id: &str, user_data: &str) {
        self.page("/hetzner/v1/userdata", user_data);
        let metadata = format!("instance-id: {instance_id}\npublic-ipv4: {PUBLIC_ADDRESS}\n");
        self.page("/hetzner/v1/metadata", &metadata);
    }

    /// Answers DigitalOcean's question, with this user data
    /// (docs.digitalocean.com/reference/api/metadata-api).
    pub fn digitalocean(&self, droplet_id: u64, user_data: &str) {
        let interface = json!({"ipv4": {"ip_address": PUBLIC_ADDRESS}});
        let droplet = json!({
            "droplet_id": droplet_id,
            "user_data": user_data,
            "interfaces": {"public": [interface]},
        });
        self.page("/metadata/v1.json", &droplet.to_string());
    }

    /// Answers as Firecracker's service does, version 2, with this document in its tree
    /// (docs/mmds/mmds-user-guide.md there).
    pub fn mmds(&self, instance_id: &str, document: &str) {
        lock(&self.shared.content).token = Some("a-token".to_owned());
        self.demand("accept: application/json");
        let meta_data = json!({"instance-id": instance_id, "public-ipv4": PUBLIC_ADDRESS});
        let tree = json!({"vmagent": document, "latest": {"meta-data": meta_data}});
        self.page("/", &tree.to_string());
    }

    /// From now on a request without this header, in lower case, is forbidden.
    fn demand(&self, header: &'static str) {
        lock(&self.shared.content).header = Some(header);
    }
}
