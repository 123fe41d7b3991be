import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsAsyncClientBuilder;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.DeletedStreamListProvider;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseSerializer;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of an application of the Kinesis Client Library. What it reads, checkpoints, gets and
 * loses is told as lines of JSON. The end of its input stops it.
 *
 * <p>Arguments are name=value: kinesis and dynamodb (where they answer), stream, table, name,
 * failover (milliseconds), start (TRIM_HORIZON, LATEST), every (so many records of a shard are
 * checkpointed at a time), open (a shard whose end is not checkpointed).
 */
public final class Worker {
    private static Map<String, String> asked;

    public static void main(String[] arguments) {
        asked = Arrays.stream(arguments)
                .map(each -> each.split("=", 2))
                .collect(Collectors.toMap(each -> each[0], each -> each[1]));
        try {
            run();
            System.exit(0); // the clients' threads would stay
        } catch (Exception broken) {
            broken.printStackTrace();
            System.exit(1);
        }
    }

    private static void run() throws Exception {
        Scheduler scheduler = scheduler();
        Thread thread = new Thread(scheduler);
        thread.start();
        while (System.in.read() >= 0) {}
        scheduler.shutdown(); // a graceful one waits for ever where it has the lease of an ended shard
        thread.join(TimeUnit.SECONDS.toMillis(20));
        tell("stopped", "");
    }

    private static Scheduler scheduler() throws Exception {
        KinesisAsyncClient kinesis = client(KinesisAsyncClient.builder(), asked.get("kinesis"));
        DynamoDbAsyncClient table = client(DynamoDbAsyncClient.builder(), asked.get("dynamodb"));
        CloudWatchAsyncClient unused = client(CloudWatchAsyncClient.builder(), asked.get("kinesis"));
        SingleStreamTracker stream = new SingleStreamTracker(
                asked.get("stream"),
                InitialPositionInStreamExtended.newInitialPosition(
                        InitialPositionInStream.valueOf(asked.getOrDefault("start", "TRIM_HORIZON"))));
        ConfigsBuilder configs = new ConfigsBuilder(
                stream, asked.get("table"), kinesis, table, unused, asked.get("name"), Told::new);
        var leases = configs.leaseManagementConfig()
                .failoverTimeMillis(Long.parseLong(asked.get("failover")))
                .maxLeasesToStealAtOneTime(2)
                .shardSyncIntervalMillis(0);
        // What a worker does with a new table once it has waited, for up to half a minute and by
        // chance, whether others are about to.
        var made = leases.leaseManagementFactory(new DynamoDBLeaseSerializer(), false);
        var rows = made.createLeaseRefresher();
        rows.createLeaseTableIfNotExists();
        if (rows.isLeaseTableEmpty()) {
            var synced = made.createShardSyncTaskManager(
                    new NullMetricsFactory(),
                    stream.streamConfigList().get(0),
                    new DeletedStreamListProvider());
            if (synced.callShardSyncTask().getException() != null) {
                throw synced.callShardSyncTask().getException();
            }
        }
        return new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig()
                        .parentShardPollIntervalMillis(200)
                        .shardConsumerDispatchPollIntervalMillis(100),
                leases,
                configs.lifecycleConfig().taskBackoffTimeMillis(200),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig()
                        .retrievalSpecificConfig(new PollingConfig(asked.get("stream"), kinesis)
                                .idleTimeBetweenReadsInMillis(200)));
    }

    private static <B extends AwsClientBuilder<B, C> & AwsAsyncClientBuilder<B, C>, C> C client(
            B builder, String url) {
        return builder.endpointOverride(URI.create(url))
                .region(Region.US_EAST_1)
                .credentialsProvider(StaticCredentialsProvider.create(
                        AwsBasicCredentials.create("a-key", "a-secret")))
                .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1))
                .build();
    }

    private static synchronized void tell(String what, String shard, Object... more) {
        StringBuilder line = new StringBuilder("{\"what\":\"" + what + "\",\"shard\":\"" + shard + '"');
        for (int each = 0; each < more.length; each += 2) {
            String shown = more[each + 1] instanceof Number ? "%s" : "\"%s\"";
            line.append(String.format(",\"%s\":" + shown, more[each], more[each + 1]));
        }
        System.out.println(line.append('}'));
        System.out.flush();
    }

    /** Of one shard. */
    private static final class Told implements ShardRecordProcessor {
        private final int every = Integer.parseInt(asked.getOrDefault("every", "1"));
        private String shard;
        private KinesisClientRecord last;
        private int since;

        @Override
        public void initialize(InitializationInput given) {
            shard = given.shardId();
            var from = given.extendedSequenceNumber();
            tell("began", shard, "sequence", from.sequenceNumber(), "sub", from.subSequenceNumber());
        }

        @Override
        public void processRecords(ProcessRecordsInput given) {
            for (KinesisClientRecord each : given.records()) {
                String data = StandardCharsets.UTF_8.decode(each.data()).toString();
                tell(
                        "record", shard, "sequence", each.sequenceNumber(),
                        "sub", each.subSequenceNumber(), "key", each.partitionKey(), "data", data);
                last = each;
                if (++since == every) {
                    checkpoint(given.checkpointer());
                }
            }
        }

        private void checkpoint(RecordProcessorCheckpointer checkpointer) {
            since = 0;
            try {
                checkpointer.checkpoint(last.sequenceNumber(), last.subSequenceNumber());
                tell("checkpoint", shard, "sequence", last.sequenceNumber(),
                        "sub", last.subSequenceNumber());
            } catch (ShutdownException lost) {
                tell("fenced", shard);
            } catch (InvalidStateException broken) {
                throw new IllegalStateException(broken);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput given) {
            tell("lost", shard);
        }

        @Override
        public void shardEnded(ShardEndedInput given) {
            tell("ended", shard);
            if (!shard.equals(asked.get("open"))) {
                try {
                    given.checkpointer().checkpoint();
                    tell("over", shard);
                } catch (ShutdownException | InvalidStateException broken) {
                    throw new IllegalStateException(broken);
                }
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput given) {
            // what is behind the last checkpoint comes again
        }
    }
}
