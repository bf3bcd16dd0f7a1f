//! Connections to one Redis, whatever it is made of, and what it says of itself.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisFuture, RedisResult, TlsMode, Value, cmd,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::ledger::address::{RedisAddress, RedisForm};

/// Cheap to clone; all clones share one connection to each server.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What is open at a time.
#[derive(Clone)]
pub(super) struct Links {
    pub(super) quick: Link,
    /// For what waits until a replica has it: that holds up all that follows on its connection.
    pub(super) writes: Link,
    /// Whether one server with replicas of its own has it all.
    has_replicas: bool,
}

impl Links {
    /// What is published on `channel` comes out of `news`, and the end of a connection, too.
    pub(super) async fn open(
        address: &RedisAddress,
        channel: &str,
        news: UnboundedSender<PushInfo>,
    ) -> RedisResult<Self> {
        if address.form == RedisForm::Cluster {
            let mut cluster = cluster(address, news)?.get_async_connection().await?;
            cluster.subscribe(channel).await?;
            let link = Link::Cluster(cluster);
            return Ok(Self { quick: link.clone(), writes: link, has_replicas: false });
        }
        let client = single(address).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let told = config.clone().set_push_sender(news);
        let mut quick = client.get_multiplexed_async_connection_with_config(&told).await?;
        quick.subscribe(channel).await?;
        let writes = client.get_multiplexed_async_connection_with_config(&config).await?;
        let (quick, writes) = (Link::Single(quick), Link::Single(writes));
        let mut links = Self { quick, writes, has_replicas: false };
        links.look_around().await?;
        Ok(links)
    }

    /// Fails unless the server answers, and takes writes.
    pub(super) async fn look_around(&mut self) -> RedisResult<()> {
        let Link::Single(connection) = &mut self.quick else {
            return cmd("GET").arg("foregate:heartbeat").query_async(&mut self.quick).await;
        };
        let role: Vec<Value> = cmd("ROLE").query_async(connection).await?;
        let is_master = match role.first() {
            Some(Value::BulkString(role)) => role == b"master",
            Some(Value::SimpleString(role)) => role == "master",
            _ => false,
        };
        if !is_master {
            return Err((redis::ErrorKind::Client, "the server is a replica").into());
        }
        self.has_replicas =
            matches!(role.get(2), Some(Value::Array(replicas)) if !replicas.is_empty());
        Ok(())
    }

    /// Waits until one replica, where there are any, has all that was written over `writes`. Says
    /// whether one has.
    pub(super) async fn replicated(&mut self) -> RedisResult<bool> {
        if !self.has_replicas {
            return Ok(true);
        }
        let replicas: u32 =
            cmd("WAIT").arg(1).arg(REPLICA_PATIENCE_MS).query_async(&mut self.writes).await?;
        Ok(replicas > 0)
    }
}

async fn single(address: &RedisAddress) -> RedisResult<Client> {
    match &address.form {
        RedisForm::Sentinel(master) => {
            let sentinels = (0..address.hosts.len()).map(|index| server(address, index));
            let master_type = SentinelServerType::Master;
            let mut builder = SentinelClientBuilder::new(sentinels, master, master_type)?
                .set_client_to_redis_db(address.database.into())
                .set_client_to_redis_protocol(ProtocolVersion::RESP3);
            if address.tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure);
            }
            if let Some(user) = &address.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &address.password {
                builder = builder.set_client_to_redis_password(password.expose());
            }
            builder.build()?.async_get_client().await
        }
        RedisForm::Single | RedisForm::Cluster => {
            let mut settings = RedisConnectionInfo::default()
                .set_db(address.database.into())
                .set_protocol(ProtocolVersion::RESP3);
            if let Some(user) = &address.user {
                settings = settings.set_username(user);
            }
            if let Some(password) = &address.password {
                settings = settings.set_password(password.expose());
            }
            let info = server(address, 0).into_connection_info()?;
            Client::open(info.set_redis_settings(settings))
        }
    }
}

fn cluster(address: &RedisAddress, news: UnboundedSender<PushInfo>) -> RedisResult<ClusterClient> {
    let nodes = (0..address.hosts.len()).map(|index| server(address, index));
    let mut builder = ClusterClient::builder(nodes)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(news);
    if address.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password.expose());
    }
    builder.build()
}

fn server(address: &RedisAddress, index: usize) -> ConnectionAddr {
    let (host, port) = address.hosts[index].clone();
    match address.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// How long Redis may take for one answer, or to let us in.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long a settled pair waits for a replica. One in the same data centre needs a millisecond.
const REPLICA_PATIENCE_MS: u64 = 100;
