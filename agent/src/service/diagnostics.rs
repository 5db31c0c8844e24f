//! DiagnosticsService; none of it is built yet.

use tonic::{Request, Response, Status as Answer, async_trait};

use super::{Api, not_built};
use crate::wire::{v1, v1::diagnostics_service_server::DiagnosticsService};

#[async_trait]
impl DiagnosticsService for Api {
    async fn explain_reference(&self, _: Request<v1::ExplainReferenceRequest>) -> Result<Response<v1::ExplainReferenceResponse>, Answer> {
        Err(not_built("ExplainReference"))
    }

    async fn run_doctor(&self, _: Request<v1::RunDoctorRequest>) -> Result<Response<v1::RunDoctorResponse>, Answer> {
        Err(not_built("RunDoctor"))
    }

    async fn audit_images(&self, _: Request<v1::AuditImagesRequest>) -> Result<Response<v1::AuditImagesResponse>, Answer> {
        Err(not_built("AuditImages"))
    }
}
