//! Asks [`super::access`] before a call reaches its service.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
    transport::server::UdsConnectInfo,
};

use super::access;

/// A service that only answers callers that may call it.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    /// The service.
    pub service: S,
    /// The uid that may do everything.
    pub root: u32,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let uid = access::uid(request.extensions().get::<UdsConnectInfo>());
        match access::check(request.uri().path(), uid, self.root) {
            Ok(()) => Box::pin(self.service.call(request)),
            Err(denied) => Box::pin(std::future::ready(Ok(denied.into_http()))),
        }
    }
}
