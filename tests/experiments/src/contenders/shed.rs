//! tower's `LoadShed` around its `ConcurrencyLimit`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt, service_fn};

use super::{Call, Contender, End, Job, REFUSED};

/// As many as there are workers, and nobody waits.
pub(crate) struct Tower(BoxCloneSyncService<Job, End, tower::BoxError>);

impl Tower {
    pub(crate) fn new(workers: u32) -> Self {
        let work = service_fn(work);
        Self(BoxCloneSyncService::new(LoadShed::new(ConcurrencyLimit::new(work, workers as usize))))
    }
}

fn work(job: Job) -> Pin<Box<dyn Future<Output = Result<End, Infallible>> + Send>> {
    Box::pin(async move { Ok(End::Served { took: job.work.run().await }) })
}

impl Contender for Tower {
    fn call(&self, job: Job) -> Call {
        let mut service = self.0.clone();
        Box::pin(async move {
            let Ok(service) = service.ready().await else { return REFUSED };
            service.call(job).await.unwrap_or(REFUSED)
        })
    }
}
