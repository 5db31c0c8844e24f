//! Small images, each with content of its own. [`Image::put`] lays one into a registry's storage (a millisecond);
//! [`Image::write_layout`] makes the OCI folder that skopeo pushes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::workdir::write_file;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_BLOCK: usize = 512;

/// Bytes with their digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The content.
    pub bytes: Vec<u8>,
    /// sha256 in hex, without the prefix.
    pub hex: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hex = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, hex }
    }

    /// `sha256:…`
    pub fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// An image in memory.
#[derive(Debug, Clone)]
pub struct Image {
    /// Repository, without registry and tag.
    pub name: String,
    /// Tag.
    pub tag: String,
    /// Layers, the lowest first.
    pub layers: Vec<Blob>,
    /// The image's configuration.
    pub config: Blob,
    /// The manifest.
    pub manifest: Blob,
}

impl Image {
    /// An image of random layers of about the given sizes; it can be pulled, not run.
    pub fn random(name: &str, tag: &str, layer_sizes: &[usize]) -> Self {
        let noise = |(index, size): (usize, &usize)| Blob::new(tar(&[(&format!("data-{index}"), 0o644, &noise(*size))]));
        Self::assemble(name, tag, layer_sizes.iter().enumerate().map(noise).collect())
    }

    /// An image of busybox that sleeps; [`super::node::Node::run_container`] runs it.
    pub fn sleeper(name: &str, tag: &str) -> Self {
        let busybox = fs::read("/bin/busybox").unwrap_or_else(|error| panic!("no static busybox: {error}"));
        let layers = vec![Blob::new(tar(&[("busybox", 0o755, &busybox)])), Blob::new(tar(&[("data", 0o644, &noise(64))]))];
        Self::assemble(name, tag, layers)
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// `REGISTRY/NAME:TAG`
    pub fn reference(&self, registry: &str) -> String {
        format!("{registry}/{}:{}", self.name, self.tag)
    }

    /// Lays the image into the storage of docker-registry, which needs no restart to serve it.
    pub fn put(&self, storage: &Path) {
        let root = storage.join("docker/registry/v2");
        let repository = root.join("repositories").join(&self.name);
        for blob in self.blobs() {
            let data = root.join("blobs/sha256").join(&blob.hex[..2]).join(&blob.hex).join("data");
            if !data.exists() {
                write_file(&data, &blob.bytes);
            }
            write_file(&repository.join("_layers/sha256").join(&blob.hex).join("link"), blob.digest());
        }
        let (manifests, hex) = (repository.join("_manifests"), &self.manifest.hex);
        let tag = manifests.join("tags").join(&self.tag);
        for folder in [manifests.join("revisions/sha256").join(hex), tag.join("index/sha256").join(hex), tag.join("current")] {
            write_file(&folder.join("link"), self.digest());
        }
    }

    /// Writes an OCI layout, for `skopeo copy oci:DIR:TAG …`.
    pub fn write_layout(&self, folder: &Path) {
        for blob in self.blobs() {
            write_file(&folder.join("blobs/sha256").join(&blob.hex), &blob.bytes);
        }
        let mut entry = self.manifest.descriptor(MANIFEST_TYPE);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": self.tag });
        write_file(&folder.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string());
        write_file(&folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string());
    }

    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config, &self.manifest])
    }

    fn assemble(name: &str, tag: &str, layers: Vec<Blob>) -> Self {
        let layer_digests: Vec<_> = layers.iter().map(Blob::digest).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": ["/busybox", "sleep", "86400"], "Labels": { "lab.nonce": format!("{:x}", nonce()) } },
            "rootfs": { "type": "layers", "diff_ids": layer_digests },
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": layers.iter().map(|layer| layer.descriptor(LAYER_TYPE)).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(manifest.to_string().into_bytes());
        Self { name: name.to_owned(), tag: tag.to_owned(), layers, config, manifest }
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Another number at each call, in each process.
fn nonce() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64);
    now ^ u64::from(std::process::id()).rotate_left(40) ^ COUNTER.fetch_add(1, Ordering::Relaxed).rotate_left(56)
}

/// Bytes that no compression shrinks (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut state = nonce() | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(size / 8 + 1).flatten().take(size).collect()
}

/// A ustar archive of plain files: name, mode, content.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, bytes) in files {
        archive.extend(tar_header(name, *mode, bytes.len()));
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(TAR_BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * TAR_BLOCK, 0);
    archive
}

fn tar_header(name: &str, mode: u32, size: usize) -> [u8; TAR_BLOCK] {
    let mut header = [0_u8; TAR_BLOCK];
    let mut put = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
