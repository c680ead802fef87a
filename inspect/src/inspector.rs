//! Looks at images, each once.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, StreamExt as _, future::join3, stream};
use signingkeyring_core::images::Image;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout,
};

use crate::{
    inspection::Inspection,
    read,
    registry::{Limits, Registries},
    unreadable::Unreadable,
};

/// Looks at images, and keeps what it found for as long as it lives, failures as well:
/// who asks for a thousand pods of one image has one answer. Clones share it.
#[derive(Clone)]
pub struct Inspector(Arc<Shared>);

struct Shared {
    registries: Registries,
    /// The images that are looked at at once: what waits for others takes no time of its
    /// own.
    at_once: Semaphore,
    images: Cells<Arc<Inspection>>,
    tags: Cells<Result<String, Unreadable>>,
    inspections: AtomicUsize,
}

type Cells<T> = Mutex<HashMap<Image, Arc<OnceCell<T>>>>;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot talk to registries: {0}: are the system's CA certificates installed?")]
pub struct NoInspector(#[source] reqwest::Error);

impl Inspector {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// If the system has no certificates that one could trust.
    pub fn new(limits: Limits) -> Result<Self, NoInspector> {
        Self::with(limits, None)
    }

    /// The same, for who has docker's configuration in this file.
    ///
    /// # Errors
    /// If the system has no certificates that one could trust.
    pub fn with_docker_config(limits: Limits, file: PathBuf) -> Result<Self, NoInspector> {
        Self::with(limits, Some(file))
    }

    fn with(limits: Limits, docker_config: Option<PathBuf>) -> Result<Self, NoInspector> {
        let at_once = Semaphore::new(limits.images_at_once);
        let registries = Registries::new(limits, docker_config).map_err(NoInspector)?;
        Ok(Self(Arc::new(Shared {
            registries,
            at_once,
            images: Mutex::default(),
            tags: Mutex::default(),
            inspections: AtomicUsize::new(0),
        })))
    }

    /// Looks at an image. Who asks while somebody else does waits for that.
    pub async fn inspect(&self, image: &Image) -> Arc<Inspection> {
        let of_digest = match image.digest() {
            Some(digest) => Ok(digest.to_owned()),
            None => self.digest_behind_tag(image).await,
        };
        let named = of_digest.map(|digest| image.with_digest(&digest));
        let found = match named {
            Err(why) => return Arc::new(Inspection::unreadable(image.clone(), &why)),
            Ok(None) => image.clone(),
            Ok(Some(named)) => named,
        };
        let cell = cell(&self.0.images, &found);
        let inspection = cell.get_or_init(|| async { Arc::new(self.0.read(&found).await) }).await;
        if inspection.image == *image {
            return inspection.clone();
        }
        Arc::new(Inspection { image: image.clone(), ..Inspection::clone(inspection) })
    }

    /// Looks at many, each once, in whatever order they come.
    pub fn inspect_all(
        &self,
        images: impl IntoIterator<Item = Image>,
    ) -> impl Stream<Item = Arc<Inspection>> {
        let images: BTreeSet<Image> = images.into_iter().collect();
        let look = move |image: Image| async move { self.inspect(&image).await };
        stream::iter(images).map(look).buffer_unordered(self.0.registries.limits.images_at_once)
    }

    /// How many images were looked at so far.
    #[must_use]
    pub fn inspections(&self) -> usize {
        self.0.inspections.load(Ordering::Relaxed)
    }

    /// The digest behind an image's tag.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn digest_behind_tag(&self, image: &Image) -> Result<String, Unreadable> {
        let tagged = image.without_digest();
        let cell = cell(&self.0.tags, &tagged);
        let resolve = || self.0.bounded(&tagged, self.0.resolve(&tagged));
        cell.get_or_init(|| async { resolve().await.unwrap_or_else(Err) }).await.clone()
    }
}

impl Shared {
    async fn resolve(&self, image: &Image) -> Result<String, Unreadable> {
        let repository = self.registries.repository(image).await?;
        read::tag(&repository, image.tag().unwrap_or("latest")).await
    }

    async fn read(&self, image: &Image) -> Inspection {
        self.inspections.fetch_add(1, Ordering::Relaxed);
        let Some(digest) = image.digest() else { return self.unnamed(image) };
        let reading = async {
            let repository = self.registries.repository(image).await?;
            Ok(join3(
                read::has_platform(&repository, digest),
                read::signatures(&repository, digest),
                read::bundles(&repository, digest),
            )
            .await)
        };
        match self.bounded(image, reading).await {
            Ok(Ok((has_platform, signatures, bundles))) => Inspection {
                image: image.clone(),
                digest: Ok(digest.to_owned()),
                has_platform,
                signatures,
                bundles,
            },
            Ok(Err(why)) | Err(why) => Inspection::unreadable(image.clone(), &why),
        }
    }

    fn unnamed(&self, image: &Image) -> Inspection {
        let (registry, what) = (image.registry().to_owned(), image.to_string());
        Inspection::unreadable(image.clone(), &Unreadable::NotFound { registry, what })
    }

    /// Within the time for one image.
    async fn bounded<T>(
        &self,
        image: &Image,
        reading: impl Future<Output = T>,
    ) -> Result<T, Unreadable> {
        // Nobody closes it.
        let _permit = self.at_once.acquire().await.ok();
        let limit = self.registries.limits.image;
        timeout(limit, reading).await.map_err(|_| Unreadable::Slow {
            registry: image.registry().to_owned(),
            what: image.repository().to_owned(),
            limit,
        })
    }
}

fn cell<T>(cells: &Cells<T>, image: &Image) -> Arc<OnceCell<T>> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    cells.entry(image.clone()).or_default().clone()
}
