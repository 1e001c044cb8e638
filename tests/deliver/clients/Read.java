import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints key and value of the first records of a topic, a line each: broker, topic, how many. */
public class Read {
    public static void main(String[] arguments) {
        var settings = Map.<String, Object>of("bootstrap.servers", arguments[0], "group.id", arguments[1] + "-java",
            "auto.offset.reset", "earliest", "isolation.level", "read_committed");
        var text = new StringDeserializer();
        try (var consumer = new KafkaConsumer<>(settings, text, text)) {
            consumer.subscribe(List.of(arguments[1]));
            for (int left = Integer.parseInt(arguments[2]); left > 0;) {
                var records = consumer.poll(Duration.ofSeconds(1));
                records.forEach(record -> System.out.println(record.key() + "\t" + record.value()));
                left -= records.count();
            }
        }
    }
}
