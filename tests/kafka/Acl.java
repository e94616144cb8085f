// Denies everybody to write to a topic, or takes that rule away: java -cp LIBS Acl.java BOOTSTRAP TOPIC deny|allow
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

public class Acl {
    public static void main(String[] arguments) throws Exception {
        var topic = new ResourcePattern(ResourceType.TOPIC, arguments[1], PatternType.LITERAL);
        var denied = new AccessControlEntry("User:*", "*", AclOperation.WRITE, AclPermissionType.DENY);
        var rule = new AclBinding(topic, denied);
        try (var admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            if (arguments[2].equals("deny")) {
                admin.createAcls(List.of(rule)).all().get();
            } else {
                admin.deleteAcls(List.of(rule.toFilter())).all().get();
            }
        }
    }
}
