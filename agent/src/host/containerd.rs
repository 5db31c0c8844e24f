//! containerd's own services: which process, which plugins failed, which tasks run, what is being fetched.

use std::{collections::BTreeMap, time::Duration};

use containerd_client::{
    services::v1::{
        DeleteImageRequest, GetImageRequest, ListContainersRequest, ListImagesRequest, ListNamespacesRequest, ListStatusesRequest,
        ListTasksRequest, PluginsRequest, TransferRequest, containers_client::ContainersClient, content_client::ContentClient,
        images_client::ImagesClient, introspection_client::IntrospectionClient, namespaces_client::NamespacesClient,
        tasks_client::TasksClient, transfer_client::TransferClient, version_client::VersionClient,
    },
    to_any,
    tonic::{Request, metadata::MetadataValue},
    types::transfer::{ImageStore, OciRegistry, RegistryResolver},
};
use tonic::transport::{Channel, Endpoint};

use super::clock;
use crate::observed::{Process, version::Version};

/// The namespace of everything that the CRI pulls and runs.
pub const CRI_NAMESPACE: &str = "k8s.io";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Content that did not grow for so many seconds was given up by whoever fetched it; containerd lists it for up to a day (measured: a
/// client that was killed leaves it there, on 1.6 as on 2.1).
const ABANDONED: i64 = 30;
/// A container without a task is being set up for at most so many seconds; later on it has ended.
const YOUNG: i64 = 10;

/// containerd did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// Nobody listens on the socket.
    #[error("containerd cannot be reached at {address}: {source}")]
    Unreachable {
        /// The socket.
        address: String,
        /// Why not.
        source: Box<tonic::transport::Error>,
    },
    /// A call failed.
    #[error("containerd refused {call}: {} ({:?})", .status.message(), .status.code())]
    Refused {
        /// The call.
        call: &'static str,
        /// Its status.
        status: Box<tonic::Status>,
    },
    /// The process that serves the socket cannot be found.
    #[error("the process of containerd cannot be found: {0}")]
    NoProcess(String),
}

impl ContainerdError {
    /// Nobody serves the socket.
    #[must_use]
    pub fn is_of_a_dead_one(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoProcess(_) => true,
            Self::Refused { status, .. } => status.code() == tonic::Code::Unavailable,
        }
    }
}

/// A running task: namespace and container id.
pub type TaskName = (String, String);

/// A client of one containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    channel: Channel,
    address: String,
}

fn call<T>(name: &'static str, result: Result<tonic::Response<T>, tonic::Status>) -> Result<T, ContainerdError> {
    result.map(tonic::Response::into_inner).map_err(|status| ContainerdError::Refused { call: name, status: Box::new(status) })
}

fn in_namespace<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    if let Ok(value) = MetadataValue::try_from(namespace) {
        request.metadata_mut().insert("containerd-namespace", value);
    }
    request
}

impl Containerd {
    /// A client for the socket; connects at the first call, and again after a restart.
    ///
    /// # Errors
    /// When the address is no path of a socket.
    pub fn at(address: &str) -> Result<Self, ContainerdError> {
        let endpoint = Endpoint::from_shared(format!("unix://{address}"))
            .map_err(|source| ContainerdError::Unreachable { address: address.to_owned(), source: Box::new(source) })?;
        Ok(Self { channel: endpoint.connect_timeout(CALL_DEADLINE).connect_lazy(), address: address.to_owned() })
    }

    /// The channel, for the CRI on the same socket.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The socket.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The running daemon's version.
    ///
    /// # Errors
    /// When it does not answer, or not with a version.
    pub async fn version(&self) -> Result<Version, ContainerdError> {
        let answer = call("Version", VersionClient::new(self.channel()).version(in_namespace(CRI_NAMESPACE, ())).await)?;
        Version::parse(&answer.version).ok_or_else(|| ContainerdError::NoProcess(format!("\"{}\" is no version", answer.version)))
    }

    /// The process that serves the socket. `main_pid` is what systemd says, 0 when it says nothing.
    ///
    /// # Errors
    /// When containerd does not answer or its process is gone.
    pub async fn process(&self, main_pid: u32) -> Result<Process, ContainerdError> {
        let pid = if main_pid == 0 {
            let server =
                call("Introspection.Server", IntrospectionClient::new(self.channel()).server(in_namespace(CRI_NAMESPACE, ())).await)?;
            server.pid as u32
        } else {
            main_pid
        };
        let start_ticks = clock::start_ticks(pid).ok_or_else(|| ContainerdError::NoProcess(format!("there is no process {pid}")))?;
        Ok(Process { pid, start_ticks, boot_id: clock::boot_id() })
    }

    /// Init errors of the plugins that make up the CRI, as `TYPE.ID: error`. Others fail on healthy nodes too (zfs, btrfs, …).
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn cri_plugin_errors(&self) -> Result<Vec<String>, ContainerdError> {
        let request = in_namespace(CRI_NAMESPACE, PluginsRequest { filters: Vec::new() });
        let answer = call("Introspection.Plugins", IntrospectionClient::new(self.channel()).plugins(request).await)?;
        let of_cri = |kind: &str, id: &str| kind == "io.containerd.cri.v1" || (kind == "io.containerd.grpc.v1" && id == "cri");
        let failed = answer.plugins.into_iter().filter(|plugin| of_cri(&plugin.r#type, &plugin.id));
        Ok(failed.filter_map(|plugin| Some(format!("{}.{}: {}", plugin.r#type, plugin.id, plugin.init_err?.message))).collect())
    }

    /// Every running task of every namespace with its process.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn tasks(&self) -> Result<BTreeMap<TaskName, u32>, ContainerdError> {
        let namespaces = NamespacesClient::new(self.channel()).list(in_namespace(CRI_NAMESPACE, ListNamespacesRequest::default())).await;
        let mut all = BTreeMap::new();
        for namespace in call("Namespaces.List", namespaces)?.namespaces {
            let request = in_namespace(&namespace.name, ListTasksRequest::default());
            let tasks = call("Tasks.List", TasksClient::new(self.channel()).list(request).await)?.tasks;
            // 2 is RUNNING (containerd api/types/task/task.proto).
            let running = tasks.into_iter().filter(|task| task.status == 2);
            all.extend(running.map(|task| ((namespace.name.clone(), task.id), task.pid)));
        }
        Ok(all)
    }

    /// Content that is being fetched now: reference, bytes so far, bytes in all (0 when unknown).
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn ingests(&self) -> Result<Vec<(String, u64, u64)>, ContainerdError> {
        let request = in_namespace(CRI_NAMESPACE, ListStatusesRequest { filters: Vec::new() });
        let answer = call("Content.ListStatuses", ContentClient::new(self.channel()).list_statuses(request).await)?;
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        Ok(answer.statuses.into_iter().map(|status| (status.r#ref, size(status.offset), size(status.total))).collect())
    }

    /// What containerd is in the middle of, in any namespace: content that grew in the last [`ABANDONED`] seconds, a task that is made and not started, a container
    /// that was made less than [`YOUNG`] seconds before `now` and has no task yet (a sandbox that is being set up). `None`: nothing.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn busy_with(&self, now: i64) -> Result<Option<String>, ContainerdError> {
        let namespaces = NamespacesClient::new(self.channel()).list(in_namespace(CRI_NAMESPACE, ListNamespacesRequest::default())).await;
        for namespace in call("Namespaces.List", namespaces)?.namespaces {
            let statuses = in_namespace(&namespace.name, ListStatusesRequest { filters: Vec::new() });
            let ingests = call("Content.ListStatuses", ContentClient::new(self.channel()).list_statuses(statuses).await)?.statuses;
            let grows = |at: &prost_types::Timestamp| now - at.seconds < ABANDONED;
            let growing = ingests.iter().find(|ingest| ingest.updated_at.as_ref().is_some_and(grows));
            if let Some(ingest) = growing {
                return Ok(Some(format!("{} is being fetched, {} bytes so far", ingest.r#ref, ingest.offset)));
            }
            let request = in_namespace(&namespace.name, ListTasksRequest::default());
            let tasks = call("Tasks.List", TasksClient::new(self.channel()).list(request).await)?.tasks;
            // 1 is CREATED (containerd api/types/task/task.proto).
            if let Some(task) = tasks.iter().find(|task| task.status == 1) {
                return Ok(Some(format!("container {} is being started", task.id)));
            }
            let request = in_namespace(&namespace.name, ListContainersRequest { filters: Vec::new() });
            let containers = call("Containers.List", ContainersClient::new(self.channel()).list(request).await)?.containers;
            let has_task = |id: &str| tasks.iter().any(|task| task.id == id);
            let is_young = |made: i64| (0..YOUNG).contains(&(now - made));
            let made = containers
                .iter()
                .find(|container| container.created_at.as_ref().is_some_and(|made| is_young(made.seconds)) && !has_task(&container.id));
            if let Some(container) = made {
                return Ok(Some(format!("container {} is being made", container.id)));
            }
        }
        Ok(None)
    }

    /// Names of images of the CRI, with the digest each points at.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn image_names(&self) -> Result<BTreeMap<String, String>, ContainerdError> {
        let request = in_namespace(CRI_NAMESPACE, ListImagesRequest { filters: Vec::new() });
        let answer = call("Images.List", ImagesClient::new(self.channel()).list(request).await)?;
        Ok(answer.images.into_iter().map(|image| (image.name, image.target.map(|target| target.digest).unwrap_or_default())).collect())
    }

    /// Whether an image name is there.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn has_image(&self, name: &str) -> Result<bool, ContainerdError> {
        let request = in_namespace(CRI_NAMESPACE, GetImageRequest { name: name.to_owned() });
        match ImagesClient::new(self.channel()).get(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(ContainerdError::Refused { call: "Images.Get", status: Box::new(status) }),
        }
    }

    /// Images that containers of the CRI were made from, by name.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn images_in_use(&self) -> Result<Vec<String>, ContainerdError> {
        let request = in_namespace(CRI_NAMESPACE, ListContainersRequest { filters: Vec::new() });
        let answer = call("Containers.List", ContainersClient::new(self.channel()).list(request).await)?;
        Ok(answer.containers.into_iter().map(|container| container.image).collect())
    }

    /// Asks for a reference by the host directories below `hosts_dir` instead of its own, past the CRI, in the name of a lease that does not
    /// exist: nothing can be stored under it, and containerd makes none of its own, which a call that is cut off would leave for a day
    /// (measured on 2.1).
    ///
    /// # Errors
    /// containerd's own status.
    pub async fn resolve_by(&self, reference: &str, hosts_dir: &str) -> Result<(), tonic::Status> {
        let resolver = RegistryResolver { host_dir: hosts_dir.to_owned(), ..RegistryResolver::default() };
        let source = OciRegistry { reference: reference.to_owned(), resolver: Some(resolver) };
        let destination = ImageStore { name: reference.to_owned(), ..ImageStore::default() };
        let message = TransferRequest { source: Some(to_any(&source)), destination: Some(to_any(&destination)), options: None };
        let mut request = in_namespace(CRI_NAMESPACE, message);
        request.metadata_mut().insert("containerd-lease", MetadataValue::from_static("mirrorlet-none"));
        TransferClient::new(self.channel()).transfer(request).await.map(drop)
    }

    /// Removes one image name; content that nothing names any more is collected at once. A name that is gone already is fine.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn remove_image_name(&self, name: &str) -> Result<(), ContainerdError> {
        let request = DeleteImageRequest { name: name.to_owned(), sync: true, ..DeleteImageRequest::default() };
        match ImagesClient::new(self.channel()).delete(in_namespace(CRI_NAMESPACE, request)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            Err(status) => Err(ContainerdError::Refused { call: "Images.Delete", status: Box::new(status) }),
        }
    }
}
