// The rows of the requirements' table of methods and paths, one by one, as they were transcribed
// from the standards and apart from the files: each is the operation that it says, nothing else is.
#include <algorithm>
#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

#include "control/profiles/test_profiles.hpp"

namespace portcullis::profiles {
namespace {

using test::FaultOf;
using test::Shipped;

struct Row {
  std::string method, path, operation;
};

// METHOD,METHOD path operation,operation
std::vector<Row> Rows(std::string_view text) {
  std::vector<Row> rows;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string methods, path, operations;
    if (!(words >> methods >> path >> operations)) continue;
    std::istringstream m(methods), o(operations);
    std::string operation;
    for (std::string method; std::getline(m, method, ',');) {
      std::string next;
      if (std::getline(o, next, ',')) operation = next;  // the last one stands for the rest
      rows.push_back({method, path, operation});
    }
  }
  return rows;
}

constexpr std::string_view kManagementExposure = R"(
POST /NSProvMnS/v1/ServiceProfiles nsi:create
DELETE /NSProvMnS/v1/ServiceProfiles/sp-1 nsi:delete
POST /ObjectManagement/NS/ServiceProfiles nsi:create
DELETE /ObjectManagement/NS/ServiceProfiles/sp-1 nsi:delete
PUT,PATCH,DELETE,GET /ProvMnS/v1/SubNetwork=1/NetworkSlice=7 nsi:create,nsi:modify,nsi:delete,nsi:monitor
PUT,PATCH,DELETE,GET /ProvMnS/v1/NetworkSlice=7 nsi:create,nsi:modify,nsi:delete,nsi:monitor
PUT,PATCH,DELETE,GET /ProvMnS/v1/SubNetwork=1/SubNetwork=2/NetworkSlice=7 nsi:create,nsi:modify,nsi:delete,nsi:monitor
GET,POST /PerfMeasJobCtrlMnS/v1/measJobs nsi:monitor
GET,DELETE /PerfMeasJobCtrlMnS/v1/measJobs/j-1 nsi:monitor
GET,PATCH /FaultSupervisionMnS/v1/alarms nsi:monitor
GET /FaultSupervisionMnS/v1/alarms/alarmCount nsi:monitor
PATCH /FaultSupervisionMnS/v1/alarms/a-1 nsi:monitor
POST /FaultSupervisionMnS/v1/alarms/a-1/comments nsi:monitor
POST /FaultSupervisionMnS/v1/subscriptions nsi:monitor
DELETE /FaultSupervisionMnS/v1/subscriptions/s-1 nsi:monitor
GET /fileDataReportingMnS/v1/files nsi:monitor
POST /fileDataReportingMnS/v1/subscriptions nsi:monitor
DELETE /fileDataReportingMnS/v1/subscriptions/s-1 nsi:monitor
POST,GET /StreamingDataReportingMnS/v1/connections nsi:monitor
GET /StreamingDataReportingMnS/v1/connections/c-1 nsi:monitor
POST,DELETE,GET /StreamingDataReportingMnS/v1/connections/c-1/streams nsi:monitor
GET /StreamingDataReportingMnS/v1/connections/c-1/streams/1 nsi:monitor
PUT,GET,DELETE /ProvMnS/v1/SubNetwork=1/FeasibilityCheckAndReservationJob=3 feasibility:reserve,nsi:monitor,feasibility:release
PUT,GET,DELETE /ProvMnS/v1/SubNetwork=1/NtfSubscriptionControl=3 nsi:monitor
)";

constexpr std::string_view kSliceSubnet = R"(
POST /NSSProvMnS/v1/SliceProfiles nssi:create
DELETE /NSSProvMnS/v1/SliceProfiles/sp-1 nssi:delete
PUT,PATCH,DELETE,GET /ProvMnS/v1/SubNetwork=1/NetworkSliceSubnet=7 nssi:create,nssi:modify,nssi:delete,nssi:monitor
)";

constexpr std::string_view kT8 = R"(
GET,POST /3gpp-monitoring-event/v1/as/subscriptions context:read,context:create
GET,PUT,PATCH,DELETE /3gpp-monitoring-event/v1/as/subscriptions/1 context:read,context:modify,context:modify,context:delete
GET,POST /3gpp-as-session-with-qos/v1/as/subscriptions control:read,control:create
GET,PUT,PATCH,DELETE /3gpp-as-session-with-qos/v1/as/subscriptions/1 control:read,control:modify,control:modify,control:delete
GET,POST /3gpp-chargeable-party/v1/as/transactions control:read,control:create
GET,PATCH,DELETE /3gpp-chargeable-party/v1/as/transactions/1 control:read,control:modify,control:delete
GET,POST /3gpp-cp-parameter-provisioning/v1/as/subscriptions subscription:read,subscription:create
GET,PUT,DELETE /3gpp-cp-parameter-provisioning/v1/as/subscriptions/1 subscription:read,subscription:modify,subscription:delete
GET,PUT,DELETE /3gpp-cp-parameter-provisioning/v1/as/subscriptions/1/cpSets/2 subscription:read,subscription:modify,subscription:modify
GET,POST /3gpp-device-triggering/v1/as/transactions communication:read,communication:create
GET,PUT,PATCH,DELETE /3gpp-device-triggering/v1/as/transactions/1 communication:read,communication:modify,communication:modify,communication:delete
POST /3gpp-ecr-control/v1/query subscription:read
POST /3gpp-ecr-control/v1/configure subscription:modify
GET,POST /3gpp-group-message-delivery-mb2/v1/as/tmgi-allocation communication:read,communication:create
GET,PUT,PATCH,DELETE /3gpp-group-message-delivery-mb2/v1/as/tmgi-allocation/t communication:read,communication:modify,communication:modify,communication:delete
GET,POST /3gpp-group-message-delivery-mb2/v1/as/tmgi-allocation/t/delivery-via-mbms communication:read,communication:create
GET,PUT,PATCH,DELETE /3gpp-group-message-delivery-mb2/v1/as/tmgi-allocation/t/delivery-via-mbms/1 communication:read,communication:modify,communication:modify,communication:delete
GET,POST /3gpp-group-message-delivery-xmb/v1/as/services communication:read,communication:create
GET,DELETE /3gpp-group-message-delivery-xmb/v1/as/services/s communication:read,communication:delete
GET,POST /3gpp-group-message-delivery-xmb/v1/as/services/s/delivery-via-mbms communication:read,communication:create
GET,PUT,PATCH,DELETE /3gpp-group-message-delivery-xmb/v1/as/services/s/delivery-via-mbms/1 communication:read,communication:modify,communication:modify,communication:delete
GET,POST /3gpp-nidd/v1/as/configurations communication:read,communication:create
GET,PATCH,DELETE /3gpp-nidd/v1/as/configurations/1 communication:read,communication:modify,communication:delete
GET,POST /3gpp-nidd/v1/as/configurations/1/downlink-data-deliveries communication:read,communication:create
GET,PUT,PATCH,DELETE /3gpp-nidd/v1/as/configurations/1/downlink-data-deliveries/2 communication:read,communication:modify,communication:modify,communication:delete
GET /3gpp-nidd/v1/as/configurations/1/rds-ports communication:read
GET,PUT,DELETE /3gpp-nidd/v1/as/configurations/1/rds-ports/2 communication:read,communication:modify,communication:delete
GET,POST /3gpp-network-parameter-configuration/v1/as/configurations subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-network-parameter-configuration/v1/as/configurations/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-pfd-management/v1/as/transactions control:read,control:create
GET,PUT,PATCH,DELETE /3gpp-pfd-management/v1/as/transactions/1 control:read,control:modify,control:modify,control:delete
GET,PUT,PATCH,DELETE /3gpp-pfd-management/v1/as/transactions/1/applications/a control:read,control:modify,control:modify,control:modify
GET,POST /3gpp-racs-pp/v1/as/provisionings subscription:read,subscription:create
GET,PATCH,PUT,DELETE /3gpp-racs-pp/v1/as/provisionings/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-net-stat-report/v1/as/subscriptions context:read,context:create
GET,PUT,PATCH,DELETE /3gpp-net-stat-report/v1/as/subscriptions/1 context:read,context:modify,context:modify,context:delete
GET,POST /3gpp-bdt/v1/as/subscriptions control:read,control:create
GET,PUT,PATCH,DELETE /3gpp-bdt/v1/as/subscriptions/1 control:read,control:modify,control:modify,control:delete
)";

constexpr std::string_view kN33 = R"(
GET,POST /3gpp-traffic-influence/v1/af/subscriptions control:read,control:create
GET,PUT,PATCH,DELETE /3gpp-traffic-influence/v1/af/subscriptions/1 control:read,control:modify,control:modify,control:delete
GET,POST /3gpp-analyticsexposure/v1/af/subscriptions context:read,context:create
GET,PUT,DELETE /3gpp-analyticsexposure/v1/af/subscriptions/1 context:read,context:modify,context:delete
POST /3gpp-analyticsexposure/v1/af/fetch context:read
GET,POST /3gpp-slice-pp/v1/pp subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-slice-pp/v1/pp/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-service-parameter/v1/af/subscriptions subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-service-parameter/v1/af/subscriptions/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-5glan-pp/v1/af/subscriptions subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-5glan-pp/v1/af/subscriptions/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-acs-pp/v1/af/subscriptions subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-acs-pp/v1/af/subscriptions/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
POST /3gpp-akma/v1/retrieve subscription:read
GET,POST /3gpp-am-influence/v1/af/subscriptions control:read,control:create
GET,PUT,PATCH,DELETE /3gpp-am-influence/v1/af/subscriptions/1 control:read,control:modify,control:modify,control:delete
POST /3gpp-am-policyauthorization/v1/af/app-am-contexts control:create
GET,PATCH,DELETE /3gpp-am-policyauthorization/v1/af/app-am-contexts/1 control:read,control:modify,control:delete
PUT,DELETE /3gpp-am-policyauthorization/v1/af/app-am-contexts/1/events-subscription control:modify
GET,POST /3gpp-asti/v1/af/configurations control:read,control:create
POST /3gpp-asti/v1/af/configurations/retrieve control:read
GET,PUT,DELETE /3gpp-asti/v1/af/configurations/1 control:read,control:modify,control:delete
GET,POST /3gpp-applying-bdt-policy/v1/af/subscriptions control:read,control:create
GET,PATCH,DELETE /3gpp-applying-bdt-policy/v1/af/subscriptions/1 control:read,control:modify,control:delete
GET,POST /3gpp-iptvconfiguration/v1/af/configurations subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-iptvconfiguration/v1/af/configurations/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-lpi-pp/v1/af/provisionedLpis subscription:read,subscription:create
GET,PUT,PATCH,DELETE /3gpp-lpi-pp/v1/af/provisionedLpis/1 subscription:read,subscription:modify,subscription:modify,subscription:delete
GET,POST /3gpp-time-sync/v1/af/subscriptions control:read,control:create
GET,PUT,DELETE /3gpp-time-sync/v1/af/subscriptions/1 control:read,control:modify,control:delete
GET,POST /3gpp-time-sync/v1/af/subscriptions/1/configurations control:read,control:create
GET,PUT,DELETE /3gpp-time-sync/v1/af/subscriptions/1/configurations/2 control:read,control:modify,control:delete
POST /3gpp-ueid/v1/retrieve subscription:read
GET,POST /3gpp-eas-deployment/v1/af/eas-deployment-info subscription:read,subscription:create
GET,PUT,DELETE /3gpp-eas-deployment/v1/af/eas-deployment-info/1 subscription:read,subscription:modify,subscription:delete
)";

constexpr std::string_view kMsgin5gGateways = R"(
POST /msgs-gwregistration/v1/registrations register
DELETE /msgs-gwregistration/v1/registrations/1 deregister
POST /msgs-msgdelivery/v1/deliver-ue-message message:send
POST /msgs-msgdelivery/v1/deliver-report report:send
)";
constexpr std::string_view kMsgin5g3 = R"(
POST /msgs-asregistration/v1/registrations register
DELETE /msgs-asregistration/v1/registrations/1 deregister
POST /msgs-msgdelivery/v1/deliver-as-message message:send
POST /msgs-msgdelivery/v1/deliver-report report:send
)";

constexpr std::string_view kOsMaNfvo = R"(
POST,GET /vnfpkgm/v2/vnf_packages pkg:onboard,catalog:read
GET,PATCH,DELETE /vnfpkgm/v2/vnf_packages/p catalog:read,pkg:update,pkg:delete
PUT,GET /vnfpkgm/v2/vnf_packages/p/package_content pkg:onboard,catalog:read
POST /vnfpkgm/v2/vnf_packages/p/package_content/upload_from_uri pkg:onboard
GET /vnfpkgm/v2/vnf_packages/p/vnfd catalog:read
GET /vnfpkgm/v2/vnf_packages/p/manifest catalog:read
GET /vnfpkgm/v2/vnf_packages/p/artifacts catalog:read
GET /vnfpkgm/v2/vnf_packages/p/artifacts/Files/scripts/install.sh catalog:read
POST,GET /vnfpkgm/v2/subscriptions catalog:read
GET,DELETE /vnfpkgm/v2/subscriptions/1 catalog:read
POST,GET /nsd/v2/ns_descriptors nsd:onboard,catalog:read
GET,PATCH,DELETE /nsd/v2/ns_descriptors/n catalog:read,nsd:update,nsd:delete
PUT,GET /nsd/v2/ns_descriptors/n/nsd_content nsd:onboard,catalog:read
PUT,GET /nsd/v2/ns_descriptors/n/nsd_archive nsd:onboard,catalog:read
GET /nsd/v2/ns_descriptors/n/nsd catalog:read
GET /nsd/v2/ns_descriptors/n/manifest catalog:read
POST,GET /nsd/v2/pnf_descriptors nsd:onboard,catalog:read
GET,PATCH,DELETE /nsd/v2/pnf_descriptors/d catalog:read,nsd:update,nsd:delete
PUT,GET /nsd/v2/pnf_descriptors/d/pnfd_content nsd:onboard,catalog:read
POST,GET /nslcm/v2/ns_instances ns:create,ns:read
GET,DELETE /nslcm/v2/ns_instances/i ns:read,ns:delete
POST /nslcm/v2/ns_instances/i/instantiate ns:instantiate
POST /nslcm/v2/ns_instances/i/scale ns:scale
POST /nslcm/v2/ns_instances/i/update ns:update
POST /nslcm/v2/ns_instances/i/heal ns:heal
POST /nslcm/v2/ns_instances/i/terminate ns:terminate
GET /nslcm/v2/ns_lcm_op_occs ns:read
GET /nslcm/v2/ns_lcm_op_occs/o ns:read
POST /nslcm/v2/ns_lcm_op_occs/o/retry ns:recover
POST /nslcm/v2/ns_lcm_op_occs/o/rollback ns:recover
POST /nslcm/v2/ns_lcm_op_occs/o/continue ns:recover
POST /nslcm/v2/ns_lcm_op_occs/o/fail ns:recover
POST /nslcm/v2/ns_lcm_op_occs/o/cancel ns:recover
POST,GET /nslcm/v2/subscriptions ns:read
GET,DELETE /nslcm/v2/subscriptions/1 ns:read
GET /nsfm/v1/alarms fault:read
GET,PATCH /nsfm/v1/alarms/a fault:read,fault:acknowledge
POST,GET /nsfm/v1/subscriptions fault:read
GET,DELETE /nsfm/v1/subscriptions/1 fault:read
POST,GET /nspm/v2/pm_jobs performance:manage,performance:read
GET,PATCH,DELETE /nspm/v2/pm_jobs/j performance:read,performance:manage
GET /nspm/v2/pm_jobs/j/reports/r performance:read
POST,GET /nspm/v2/thresholds performance:manage,performance:read
GET,PATCH,DELETE /nspm/v2/thresholds/t performance:read,performance:manage
)";

constexpr std::string_view kVnfLifecycle = R"(
POST,GET /vnflcm/v2/vnf_instances vnf:create,vnf:read
GET,PATCH,DELETE /vnflcm/v2/vnf_instances/i vnf:read,vnf:modify,vnf:delete
POST /vnflcm/v2/vnf_instances/i/instantiate vnf:instantiate
POST /vnflcm/v2/vnf_instances/i/scale vnf:scale
POST /vnflcm/v2/vnf_instances/i/scale_to_level vnf:scale
POST /vnflcm/v2/vnf_instances/i/change_flavour vnf:change-flavour
POST /vnflcm/v2/vnf_instances/i/terminate vnf:terminate
POST /vnflcm/v2/vnf_instances/i/heal vnf:heal
POST /vnflcm/v2/vnf_instances/i/operate vnf:operate
POST /vnflcm/v2/vnf_instances/i/change_ext_conn vnf:change-connectivity
POST /vnflcm/v2/vnf_instances/i/change_vnfpkg vnf:change-package
POST /vnflcm/v2/vnf_instances/i/create_snapshot vnf:snapshot
POST /vnflcm/v2/vnf_instances/i/revert_to_snapshot vnf:revert
GET /vnflcm/v2/vnf_lcm_op_occs vnf:read
GET /vnflcm/v2/vnf_lcm_op_occs/o vnf:read
POST /vnflcm/v2/vnf_lcm_op_occs/o/retry vnf:recover
POST /vnflcm/v2/vnf_lcm_op_occs/o/rollback vnf:recover
POST /vnflcm/v2/vnf_lcm_op_occs/o/fail vnf:recover
POST /vnflcm/v2/vnf_lcm_op_occs/o/cancel vnf:recover
POST,GET /vnflcm/v2/subscriptions vnf:read
GET,DELETE /vnflcm/v2/subscriptions/1 vnf:read
GET /vnfind/v1/indicators vnf:read
GET /vnfind/v1/indicators/i vnf:read
GET /vnfind/v1/indicators/i/n vnf:read
POST,GET /vnfind/v1/subscriptions vnf:read
GET,DELETE /vnfind/v1/subscriptions/1 vnf:read
GET /vnffm/v1/alarms fault:read
GET,PATCH /vnffm/v1/alarms/a fault:read,fault:acknowledge
POST,GET /vnffm/v1/subscriptions fault:read
GET,DELETE /vnffm/v1/subscriptions/1 fault:read
POST,GET /vnfpm/v2/pm_jobs performance:manage,performance:read
GET,PATCH,DELETE /vnfpm/v2/pm_jobs/j performance:read,performance:manage
GET /vnfpm/v2/pm_jobs/j/reports/r performance:read
POST,GET /vnfpm/v2/thresholds performance:manage,performance:read
GET,PATCH,DELETE /vnfpm/v2/thresholds/t performance:read,performance:manage
)";
constexpr std::string_view kOrVnfm = R"(
POST /grant/v1/grants grant:request
GET /grant/v1/grants/g grant:read
GET /vnfpkgm/v2/vnf_packages catalog:read
GET /vnfpkgm/v2/vnf_packages/p catalog:read
GET /vnfpkgm/v2/vnf_packages/p/vnfd catalog:read
GET /vnfpkgm/v2/vnf_packages/p/manifest catalog:read
GET /vnfpkgm/v2/vnf_packages/p/package_content catalog:read
GET /vnfpkgm/v2/vnf_packages/p/artifacts/a/b catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages/v catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages/v/vnfd catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages/v/manifest catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages/v/package_content catalog:read
GET /vnfpkgm/v2/onboarded_vnf_packages/v/artifacts/a/b catalog:read
)";
constexpr std::string_view kVeVnfm = R"(
GET,PATCH /vnfconfig/v1/configuration config:read,config:write
POST /vnffm/v1/alarms/a/escalate fault:acknowledge
)";

constexpr std::string_view kApiRegistry = R"(
POST /api-provider-management/v1/registrations provider:register
PUT,PATCH,DELETE /api-provider-management/v1/registrations/r provider:update,provider:update,provider:deregister
POST,GET /published-apis/v1/apf/service-apis api:publish,api:read
GET,PUT,PATCH,DELETE /published-apis/v1/apf/service-apis/s api:read,api:update,api:update,api:withdraw
POST /api-invoker-management/v1/onboardedInvokers client:onboard
PUT,PATCH,DELETE /api-invoker-management/v1/onboardedInvokers/o client:update,client:update,client:offboard
GET /service-apis/v1/allServiceAPIs api:discover
GET,PUT,DELETE /capif-security/v1/trustedInvokers/i security:read,security:negotiate,security:revoke
POST /capif-security/v1/trustedInvokers/i/update security:negotiate
POST /capif-security/v1/trustedInvokers/i/delete security:revoke
POST /capif-security/v1/securities/s/token token:issue
GET /access-control-policy/v1/accessControlPolicyList/s policy:read
POST /aef-security/v1/check-authentication security:check
POST /aef-security/v1/revoke-authorization security:revoke
POST /api-invocation-logs/v1/aef/logs log:write
GET /logs/v1/apiInvocationLogs log:read
POST /oauth2/token token:issue
)";

struct Interface {
  std::string_view profile;
  std::vector<std::string_view> rows;
};
void PrintTo(const Interface& one, std::ostream* out) {
  *out << one.profile;
}

class Profiles : public testing::TestWithParam<Interface> {
 protected:
  const Profile& profile_ = Shipped(GetParam().profile);
  std::vector<Row> rows_ = [] {
    std::vector<Row> all;
    for (const auto text : GetParam().rows) {
      for (Row& row : Rows(text)) all.push_back(std::move(row));
    }
    return all;
  }();
};

TEST_P(Profiles, EachRowIsItsOperationAndEachRuleHasItsRow) {
  ASSERT_FALSE(rows_.empty());
  std::set<const Rule*> seen;
  for (const Row& row : rows_) {
    const auto match = profile_.Find(row.method, row.path);
    ASSERT_TRUE(match) << row.method << " " << row.path << ": " << FaultOf(match);
    EXPECT_EQ(match->rule->operation->name, row.operation) << row.method << " " << row.path;
    seen.insert(match->rule);
  }
  for (const Path& path : profile_.paths) {
    for (const Rule& rule : path.rules) {
      EXPECT_TRUE(seen.contains(&rule)) << rule.method << " " << path.form.text() << " has no row";
    }
  }
}

TEST_P(Profiles, NothingElseIsFound) {
  std::set<std::pair<std::string, std::string>> listed;
  for (const Row& row : rows_) listed.emplace(row.method, row.path);
  size_t refused = 0;
  const auto refuse = [&](const std::string& method, const std::string& path) {
    if (listed.contains({method, path})) return;
    const auto match = profile_.Find(method, path);
    const bool any_path = match && match->path->form.text().ends_with("+}");  // artifacts
    EXPECT_FALSE(match && !any_path) << method << " " << path;
    ++refused;
  };
  for (const Row& row : rows_) {
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE",
                               "CONNECT", "get", "Post", "GETT", ""}) {
      refuse(method, row.path);
    }
    refuse(row.method, row.path + "/more/than/that");
    refuse(row.method, "/before" + row.path);
    const auto query = profile_.Find(row.method, row.path + "?unlisted=1");
    EXPECT_EQ(FaultOf(query), "query_unlisted") << row.path;
    std::string swapped = row.path;  // the first letter of the API's name in the other case
    for (char& c : swapped) {
      if (std::isalpha(static_cast<unsigned char>(c)) == 0) continue;
      c = static_cast<char>(c ^ 0x20);
      break;
    }
    refuse(row.method, swapped);
  }
  refuse("GET", "/");
  refuse("GET", "/unlisted");
  EXPECT_GT(refused, rows_.size() * 10);
}

// Behind a root, the same paths and no others.
TEST_P(Profiles, TheRootStandsBeforeEveryPath) {
  for (const Row& row : rows_) {
    EXPECT_TRUE(profile_.Find(row.method, "/nbi/a" + row.path, "/nbi/a")) << row.path;
    EXPECT_EQ(FaultOf(profile_.Find(row.method, row.path, "/nbi/a")), "outside_root");
    EXPECT_EQ(FaultOf(profile_.Find(row.method, "/nbi/ab" + row.path, "/nbi/a")), "outside_root");
    EXPECT_FALSE(profile_.Find(row.method, "/nbi/a/nbi/a" + row.path, "/nbi/a"));
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, Profiles,
                         testing::Values(Interface{"management-exposure", {kManagementExposure}},
                                         Interface{"slice-subnet", {kSliceSubnet}},
                                         Interface{"scef", {kT8, kN33}},
                                         Interface{"msgin5g-2", {kMsgin5gGateways}},
                                         Interface{"msgin5g-3", {kMsgin5g3}},
                                         Interface{"msgin5g-4", {kMsgin5gGateways}},
                                         Interface{"os-ma-nfvo", {kOsMaNfvo}},
                                         Interface{"or-vnfm", {kVnfLifecycle, kOrVnfm}},
                                         Interface{"ve-vnfm", {kVnfLifecycle, kVeVnfm}},
                                         Interface{"api-registry", {kApiRegistry}}),
                         [](const auto& info) {
                           std::string name(info.param.profile);
                           std::erase(name, '-');
                           return name;
                         });

TEST(Shipped, EachProfileIsTested) {
  EXPECT_EQ(Shipped().size(), 10U);
  for (const auto& [name, profile] : Shipped()) EXPECT_EQ(name, profile.name);
}

TEST(Roots, AreNothingOrACanonicalPath) {
  for (const char* root : {"", "/nbi", "/3GPPManagement/a"}) EXPECT_TRUE(IsRoot(root)) << root;
  for (const char* root : {"/", "nbi", "/nbi/", "/a/../b", "/%41", "/a?b", "https://h/a"}) {
    EXPECT_FALSE(IsRoot(root)) << root;
  }
}

TEST(Docs, SayEachReasonAndNameEachFile) {
  std::ifstream in(SHIPPED_INTERFACES "/../../docs/interface-profiles.md");
  std::ostringstream text;
  text << in.rdbuf();
  for (const FaultInfo& fault : kFaults) {
    const std::string row = fmt::format("| `{}` | {} |", fault.name, fault.text);
    EXPECT_NE(text.str().find(row), std::string::npos) << row;
  }
  for (const auto& [name, profile] : Shipped()) {
    EXPECT_NE(text.str().find("`" + name + ".yaml`"), std::string::npos) << name;
  }
}

TEST(Resources, AreNamedByTheirParametersDecoded) {
  const Profile& exposure = Shipped("management-exposure");
  const auto slice = exposure.Find("GET", "/ProvMnS/v1/SubNetwork=1/NetworkSlice=a%20b");
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->About()->kind, "network-slice");
  EXPECT_EQ(slice->About()->id, "SubNetwork=1/a b");
  // Another version of the API is no other slice.
  const auto other = exposure.Find("GET", "/ProvMnS/v2/SubNetwork=1/NetworkSlice=a%20b");
  EXPECT_EQ(other->About()->id, slice->About()->id);
  EXPECT_EQ(exposure.Find("GET", "/ProvMnS/v1/NetworkSlice=7")->About()->id, "/7");
  EXPECT_FALSE(exposure.Find("GET", "/FaultSupervisionMnS/v1/alarms")->About());
  EXPECT_TRUE(exposure.Find("DELETE", "/ProvMnS/v1/NetworkSlice=7")->rule->deletes);
  EXPECT_FALSE(exposure.Find("GET", "/ProvMnS/v1/NetworkSlice=7")->rule->deletes);
  EXPECT_FALSE(exposure.Find("DELETE", "/StreamingDataReportingMnS/v1/connections/c/streams")
                   ->rule->deletes);
}

TEST(Resources, TheCallerIsInThePath) {
  const Profile& scef = Shipped("scef");
  EXPECT_EQ(scef.Find("GET", "/3gpp-nidd/v1/as-1/configurations/7")->Caller(), "as-1");
  EXPECT_EQ(scef.Find("GET", "/3gpp-bdt/v1/as%C3%A9/subscriptions")->Caller(), "as\xC3\xA9");
  EXPECT_FALSE(scef.Find("GET", "/3gpp-slice-pp/v1/pp")->Caller());
  // Two callers' subscriptions of one number are two.
  const auto one = scef.Find("GET", "/3gpp-bdt/v1/as-1/subscriptions/7")->About();
  const auto two = scef.Find("GET", "/3gpp-bdt/v1/as-2/subscriptions/7")->About();
  EXPECT_EQ(one->id, "as-1/7");
  EXPECT_EQ(two->id, "as-2/7");
  for (const Path& path : scef.paths) {
    const bool named = path.form.IndexOf("scsAsId") || path.form.IndexOf("afId");
    EXPECT_EQ(path.caller.has_value(), named) << path.form.text();
  }
}

TEST(Resources, WhatIsCreatedIsInTheAnswer) {
  const Profile& scef = Shipped("scef");
  const auto post = scef.Find("POST", "/3gpp-nidd/v1/as-1/configurations");
  for (const char* location : {"/3gpp-nidd/v1/as-1/configurations/7",
                               "https://scef.example/3gpp-nidd/v1/as-1/configurations/7",
                               "https://[2001:db8::1]:8443/x/configurations/7"}) {
    const auto created = post->Created(location, "");
    ASSERT_TRUE(created) << location;
    EXPECT_EQ(created->kind, "nidd");
    EXPECT_EQ(created->id, "as-1/7");
    EXPECT_EQ(created->id, scef.Find("GET", "/3gpp-nidd/v1/as-1/configurations/7")->About()->id);
  }
  for (const char* location : {"", "/", "https://scef.example", "https://scef.example/", "7",
                               "/x/7/", "/x/..", "/x/%2F", "/x/7?a=b", "/x/7;v=1", "/x/%37"}) {
    EXPECT_FALSE(post->Created(location, "")) << location;
  }
  EXPECT_FALSE(scef.Find("GET", "/3gpp-nidd/v1/as-1/configurations")->Created("/x/7", ""));
  const auto put = Shipped("management-exposure").Find("PUT", "/ProvMnS/v1/NetworkSlice=7");
  EXPECT_EQ(put->Created("", "")->id, put->About()->id);
}

TEST(Resources, WhatATaskStartsBelongsToWhoStartedIt) {
  const Profile& nfvo = Shipped("os-ma-nfvo");
  const auto heal = nfvo.Find("POST", "/nslcm/v2/ns_instances/i/heal");
  EXPECT_EQ(heal->About()->kind, "ns-instance");
  const auto started = heal->Created("/nslcm/v2/ns_lcm_op_occs/9", "");
  const auto about = nfvo.Find("POST", "/nslcm/v2/ns_lcm_op_occs/9/cancel")->About();
  EXPECT_EQ(started->kind, about->kind);
  EXPECT_EQ(started->id, about->id);
}

TEST(Egress, IsListedAsWell) {
  const Profile& gateways = Shipped("msgin5g-4");
  const auto operation = [&](const char* method, const char* path) {
    const auto found = gateways.FindEgress(method, path, "/gw");
    return found ? (*found)->operation->name : FaultOf(found);
  };
  EXPECT_EQ(operation("POST", "/gw/msgg-n3gdelivery/v1/deliver-message"), "message:deliver");
  EXPECT_EQ(operation("POST", "/gw/msgg-n3gdelivery/v1/deliver-report"), "report:deliver");
  EXPECT_EQ(operation("GET", "/gw/msgg-n3gdelivery/v1/deliver-report"), "method_unlisted");
  EXPECT_EQ(operation("POST", "/gw/msgg-l3gdelivery/v1/deliver-message"), "path_unlisted");
  EXPECT_EQ(operation("POST", "/msgg-n3gdelivery/v1/deliver-message"), "outside_root");
  EXPECT_EQ(operation("POST", "/gw/msgg-n3gdelivery/v1/deliver-message?a=b"), "query_unlisted");
  EXPECT_EQ(operation("POST", "/gw//msgg-n3gdelivery/v1/deliver-message"), "empty_segment");
  EXPECT_TRUE(Shipped("management-exposure")
                  .FindEgress("DELETE",
                              "/StreamingDataReportingMnS/v1/connections/c/streams"
                              "?streamIds=1"));
  // What the server may send, a gateway may not, nor the other way round.
  EXPECT_FALSE(gateways.Find("POST", "/msgg-n3gdelivery/v1/deliver-message"));
  EXPECT_FALSE(gateways.FindEgress("POST", "/msgs-msgdelivery/v1/deliver-report"));
  EXPECT_EQ(gateways.opens->name, "register");
  EXPECT_EQ(gateways.closes->name, "deregister");
  for (const char* profile : {"management-exposure", "scef", "os-ma-nfvo", "or-vnfm", "ve-vnfm",
                              "api-registry", "msgin5g-3"}) {
    const auto& egress = Shipped(profile).egress;
    EXPECT_TRUE(std::ranges::any_of(egress, [](const Egress& e) { return !e.apis.empty(); }))
        << profile;
  }
}

// Whatever takes callbacks has egress to them, or nobody could ever be called back.
TEST(Egress, EachCallbackHasSomethingThatGoesThere) {
  for (const auto& [name, profile] : Shipped()) {
    for (const Path& path : profile.paths) {
      for (const Rule& rule : path.rules) {
        if (rule.body.callbacks.empty()) continue;
        EXPECT_TRUE(std::ranges::any_of(
            profile.egress,
            [&](const Egress& e) { return std::ranges::find(e.apis, path.api) != e.apis.end(); }))
            << name << " " << path.form.text();
      }
    }
  }
}

}  // namespace
}  // namespace portcullis::profiles
