// The broker's side of MSK IAM, for tests: it reads the token as AWS does and computes the signature again by itself.
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

public class MskTokens implements AuthenticateCallbackHandler {
    /** As tests/support/secured.rs has them: a user's key, and one that a role lends. */
    private static final Map<String, String> SECRETS =
        Map.of("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "ASIALENT", "lent-secret");

    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    public void close() {}

    public void handle(Callback[] callbacks) {
        for (Callback callback : callbacks) {
            if (callback instanceof OAuthBearerValidatorCallback validation) {
                try {
                    validation.token(check(validation.tokenValue()));
                } catch (Exception refused) {
                    validation.error("invalid_token: " + refused.getMessage(), null, null);
                }
            }
        }
    }

    private OAuthBearerToken check(String text) throws Exception {
        URI url = new URI(new String(Base64.getUrlDecoder().decode(text), StandardCharsets.UTF_8));
        TreeMap<String, String> query = new TreeMap<>();
        for (String pair : url.getRawQuery().split("&")) {
            String[] halves = pair.split("=", 2);
            query.put(halves[0], halves[1]);
        }
        String told = query.remove("X-Amz-Signature");
        if (query.remove("User-Agent") == null) throw new IllegalArgumentException("no User-Agent");
        String[] credential = read(query, "X-Amz-Credential").split("/");
        if (!read(query, "Action").equals("kafka-cluster:Connect")) throw new IllegalArgumentException("Action");
        if (!credential[3].equals("kafka-cluster")) throw new IllegalArgumentException("service");
        if (!url.getHost().equals("kafka." + credential[2] + ".amazonaws.com")) throw new IllegalArgumentException("host");
        String secret = SECRETS.get(credential[0]);
        if (secret == null) throw new IllegalArgumentException("unknown access key");
        if (credential[0].startsWith("ASIA") && query.get("X-Amz-Security-Token") == null) throw new IllegalArgumentException("no session token");

        String canonical = "GET\n/\n" + String.join("&", query.entrySet().stream().map(e -> e.getKey() + "=" + e.getValue()).toList())
            + "\nhost:" + url.getHost() + "\n\nhost\n" + hex(MessageDigest.getInstance("SHA-256").digest());
        String scope = credential[1] + "/" + credential[2] + "/kafka-cluster/aws4_request";
        String toSign = "AWS4-HMAC-SHA256\n" + query.get("X-Amz-Date") + "\n" + scope + "\n"
            + hex(MessageDigest.getInstance("SHA-256").digest(canonical.getBytes(StandardCharsets.UTF_8)));
        byte[] key = ("AWS4" + secret).getBytes(StandardCharsets.UTF_8);
        for (String part : scope.split("/")) key = hmac(key, part);
        if (!hex(hmac(key, toSign)).equals(told)) throw new IllegalArgumentException("signature");

        Instant from = LocalDateTime.parse(query.get("X-Amz-Date"), DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'")).toInstant(ZoneOffset.UTC);
        long until = from.toEpochMilli() + 1000 * Long.parseLong(query.get("X-Amz-Expires"));
        if (until < System.currentTimeMillis()) throw new IllegalArgumentException("expired");
        return new OAuthBearerToken() {
            public String value() { return text; }
            public Set<String> scope() { return Set.of(); }
            public long lifetimeMs() { return until; }
            public String principalName() { return credential[0]; }
            public Long startTimeMs() { return from.toEpochMilli(); }
        };
    }

    private static String read(Map<String, String> query, String name) {
        return URLDecoder.decode(query.get(name), StandardCharsets.UTF_8);
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
