// Has the rules of a topic deny everybody to write to it or all that there is, or takes the rules away:
// java -cp LIBS Acl.java BOOTSTRAP TOPIC write|all|none
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

public class Acl {
    static AclBinding rule(String topic, AclOperation operation, AclPermissionType permission) {
        var pattern = new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL);
        return new AclBinding(pattern, new AccessControlEntry("User:*", "*", operation, permission));
    }

    public static void main(String[] arguments) throws Exception {
        var topic = arguments[1];
        try (var admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            switch (arguments[2]) {
                // A topic with a rule allows no more than its rules do.
                case "write" -> admin.createAcls(List.of(
                    rule(topic, AclOperation.ALL, AclPermissionType.ALLOW),
                    rule(topic, AclOperation.WRITE, AclPermissionType.DENY))).all().get();
                case "all" -> admin.createAcls(List.of(
                    rule(topic, AclOperation.ALL, AclPermissionType.DENY))).all().get();
                default -> {
                    var pattern = new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL);
                    var any = new AclBindingFilter(pattern.toFilter(), AccessControlEntryFilter.ANY);
                    admin.deleteAcls(List.of(any)).all().get();
                }
            }
        }
    }
}
