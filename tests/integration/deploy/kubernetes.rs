//! `deploy/kubernetes` and `deploy/helm`: read as a cluster reads them, and run on a real node.

mod cluster;
mod load;
mod manifests;
mod node;
mod objects;
