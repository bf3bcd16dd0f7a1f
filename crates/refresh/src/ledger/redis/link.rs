//! Connections to one Redis, whatever it is made of, and what it says of itself.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    RedisFuture, RedisResult, TlsMode, Value, cmd,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep};

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
    /// What is published on `channel` comes out of `news`, and the end of a connection, too. The error
    /// beside the links says why the server takes no writes.
    pub(super) async fn open(
        address: &RedisAddress,
        channel: &str,
        news: UnboundedSender<PushInfo>,
    ) -> RedisResult<(Self, Option<RedisError>)> {
        if address.form == RedisForm::Cluster {
            let mut quick =
                cluster(address).push_sender(news).build()?.get_async_connection().await?;
            quick.subscribe(channel).await?;
            let writes = cluster(address).build()?.get_async_connection().await?;
            let (quick, writes) = (Link::Cluster(quick), Link::Cluster(writes));
            // Which of the nodes have replicas is asked of each.
            let mut links = Self { quick, writes, has_replicas: true };
            let refusal = links.look_around().await?;
            return Ok((links, refusal));
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
        let refusal = links.look_around().await?;
        Ok((links, refusal))
    }

    /// Fails unless the server answers; the error inside says why it takes no writes.
    pub(super) async fn look_around(&mut self) -> RedisResult<Option<RedisError>> {
        if let Link::Single(connection) = &mut self.quick {
            let role: Vec<Value> = cmd("ROLE").query_async(connection).await?;
            let Some(replicas) = replicas(&role) else {
                return Err((ErrorKind::Client, "the server is a replica").into());
            };
            self.has_replicas = replicas > 0;
        }
        let mut write = cmd("SET");
        write.arg("foregate:heartbeat").arg(1).arg("PX").arg(1);
        match write.query_async::<()>(&mut self.quick).await {
            Ok(()) => Ok(None),
            Err(error) if refuses_writes(&error) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Waits until one replica, where there are any, has what was written to `keys` over `writes`.
    /// Says whether one has.
    pub(super) async fn replicated(&mut self, keys: &[String]) -> RedisResult<bool> {
        if !self.has_replicas {
            return Ok(true);
        }
        // One server has all of the keys; of a Cluster each may be on another one.
        let keys = if let Link::Single(_) = self.writes { &keys[..1] } else { keys };
        for key in keys {
            let mut wait = cmd("WAIT");
            wait.arg(1).arg(REPLICA_PATIENCE_MS);
            let replicas: u32 = self.writes.ask_owner(wait, key).await?;
            if replicas == 0 && self.has_replica(key).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the server that has a key has a replica.
    async fn has_replica(&mut self, key: &str) -> RedisResult<bool> {
        let role: Vec<Value> = self.writes.ask_owner(cmd("ROLE"), key).await?;
        Ok(matches!(replicas(&role), Some(1..)))
    }
}

/// How many replicas a server has, by its `ROLE`. `None`: it is one itself.
fn replicas(role: &[Value]) -> Option<usize> {
    let is_master = match role.first() {
        Some(Value::BulkString(role)) => role == b"master",
        Some(Value::SimpleString(role)) => role == "master",
        _ => false,
    };
    let count = match role.get(2) {
        Some(Value::Array(replicas)) => replicas.len(),
        _ => 0,
    };
    is_master.then_some(count)
}

/// Whether a server only takes no writes, for now: it is full, lacks replicas or a disk, or does not
/// let us.
pub(super) fn refuses_writes(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "NOREPLICAS" | "MISCONF" | "READONLY" | "NOPERM"))
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
            let (mut client, began) = (builder.build()?, Instant::now());
            loop {
                match client.async_get_client().await {
                    // In the middle of a failover the sentinels have no master to name.
                    Err(error)
                        if error.kind() == ErrorKind::MasterNameNotFoundBySentinel
                            && began.elapsed() < PATIENCE =>
                    {
                        sleep(PATIENCE / 10).await;
                    }
                    found => return found,
                }
            }
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

fn cluster(address: &RedisAddress) -> ClusterClientBuilder {
    let nodes = (0..address.hosts.len()).map(|index| server(address, index));
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .use_protocol(ProtocolVersion::RESP3);
    if address.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password.expose());
    }
    builder
}

fn server(address: &RedisAddress, index: usize) -> ConnectionAddr {
    let (host, port) = address.hosts[index].clone();
    match address.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    }
}

impl Link {
    /// Asks the server that has a key.
    async fn ask_owner<T: FromRedisValue>(&mut self, question: Cmd, key: &str) -> RedisResult<T> {
        match self {
            Self::Single(connection) => question.query_async(connection).await,
            Self::Cluster(connection) => {
                let route = Route::new(slot(key), SlotAddr::Master);
                let owner = SingleNodeRoutingInfo::SpecificNode(route);
                let owner = RoutingInfo::SingleNode(owner);
                let answer = connection.route_command(question, owner).await?;
                Ok(T::from_redis_value(answer)?)
            }
        }
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

/// The slot of a key: CRC-16/XMODEM of what stands in its braces, or of all of it (Redis Cluster
/// specification, "Key distribution model").
fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let tag = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % 16_384
}

/// How long Redis may take for one answer, or to let us in.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long a settled pair waits for a replica. One in the same data centre needs a millisecond.
const REPLICA_PATIENCE_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` says.
    #[test]
    fn keys_with_one_tag_have_one_slot() {
        for (key, expected) in
            [("123456789", 12_739), ("foo", 12_182), ("{foo}:x", 12_182), ("{}a", 10_875)]
        {
            assert_eq!(slot(key), expected, "{key}");
        }
    }
}
