// Rules and users of a cluster, a command a line on standard input, each answered by "ok" or by why not:
// java -cp LIBS Rules.java BOOTSTRAP
//   add|remove PRINCIPAL RESOURCE NAME PATTERN OPERATION
//   scram USER PASSWORD
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

public class Rules {
    static AclBinding rule(String[] words) {
        var type = ResourceType.valueOf(words[2]);
        var pattern = new ResourcePattern(type, words[3], PatternType.valueOf(words[4]));
        var operation = AclOperation.valueOf(words[5]);
        return new AclBinding(pattern,
            new AccessControlEntry("User:" + words[1], "*", operation, AclPermissionType.ALLOW));
    }

    public static void main(String[] arguments) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        try (var admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            for (var line = input.readLine(); line != null; line = input.readLine()) {
                var words = line.split(" ");
                try {
                    switch (words[0]) {
                        case "add" -> admin.createAcls(List.of(rule(words))).all().get();
                        case "remove" ->
                            admin.deleteAcls(List.of(rule(words).toFilter())).all().get();
                        case "scram" -> {
                            var how = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
                            var user = new UserScramCredentialUpsertion(words[1], how, words[2]);
                            admin.alterUserScramCredentials(List.of(user)).all().get();
                        }
                        default -> throw new IllegalArgumentException(words[0]);
                    }
                    System.out.println("ok");
                } catch (Exception error) {
                    System.out.println(error);
                }
            }
        }
    }
}
