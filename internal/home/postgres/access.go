package postgres

import (
	"fmt"
	"strings"
)

// Names of the maps in pg_ident.conf.
const (
	gatewayMap = "trefoil_gateway"
	peerMap    = "trefoil_peer"
)

// Access says who may log in. The zero value lets the superuser and other roles with a SCRAM
// password in by the Unix socket, and nobody over TCP.
type Access struct {
	// GatewayName is the common name of the gateway's certificate. With GatewayUsers it opens
	// the cluster over TLS for exactly these roles (service databases).
	GatewayName  string
	GatewayUsers []string
	// PeerNames are common names of replicas' certificates; they may replicate as PeerUser.
	PeerNames []string
	PeerUser  string
	// Principals, a group role, makes this a dataset cluster: its members log in over TLS with
	// any certificate of the gateway's authority. Members must not be able to do more than read.
	Principals string
	// Never lists roles that must not come over TCP though they are members of Principals: the
	// steward administers the group, which to pg_hba.conf is membership.
	Never []string
	// Probe, a role, logs in over TLS with its SCRAM password: the monitor's probe, which may call
	// a few functions. A role of this name that was not installed opens nothing.
	Probe string
	// From are address ranges that TLS logins may come from; default loopback.
	From []string
	// PasswordTCP also lets SCRAM passwords in over plain TCP from loopback: tests, and a demo
	// source that plays "a database nobody prepared".
	PasswordTCP bool
}

// hba renders pg_hba.conf. The first matching line decides, so rejections come first, and
// what no line matches is refused.
func (a Access) hba(superuser string, tls bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by trefoil at every start. Changes here are lost.")
	if a.Principals != "" { // a principal may give its own role a password: it must open nothing
		line("local all %s scram-sha-256", quoteHBA(superuser))
		for _, role := range a.Never {
			line("local all %s scram-sha-256", quoteHBA(role))
		}
		line("local all +%s reject", quoteHBA(a.Principals))
	}
	line("local all all scram-sha-256")
	line("local replication all scram-sha-256")
	if !a.PasswordTCP {
		line("host all %s all reject", quoteHBA(superuser))
	}
	for _, role := range a.Never {
		line("host all %s all reject", quoteHBA(role))
	}
	from := a.From
	if len(from) == 0 {
		from = []string{"127.0.0.1/32", "::1/128"}
	}
	for _, net := range from {
		if !tls {
			break
		}
		if len(a.PeerNames) > 0 {
			line("hostssl replication %s %s cert map=%s", quoteHBA(a.PeerUser), net, peerMap)
		}
		if len(a.GatewayUsers) > 0 {
			line("hostssl all %s %s cert map=%s", quoteHBAList(a.GatewayUsers), net, gatewayMap)
		}
		if a.Probe != "" {
			line("hostssl all %s %s scram-sha-256", quoteHBA(a.Probe), net)
		}
		if a.Principals != "" {
			line("hostssl all +%s %s trust clientcert=verify-ca", quoteHBA(a.Principals), net)
		}
	}
	if a.PasswordTCP {
		line("host all all 127.0.0.1/32 scram-sha-256")
		line("host all all ::1/128 scram-sha-256")
		line("host replication all 127.0.0.1/32 scram-sha-256")
	}
	line("host all all all reject")
	line("host replication all all reject")
	return b.String()
}

// ident renders pg_ident.conf: which certificate may be which role.
func (a Access) ident() string {
	var b strings.Builder
	b.WriteString("# Written by trefoil at every start. Changes here are lost.\n")
	for _, role := range a.GatewayUsers {
		fmt.Fprintf(&b, "%s %s %s\n", gatewayMap, quoteHBA(a.GatewayName), quoteHBA(role))
	}
	for _, peer := range a.PeerNames {
		fmt.Fprintf(&b, "%s %s %s\n", peerMap, quoteHBA(peer), quoteHBA(a.PeerUser))
	}
	return b.String()
}

// quoteHBA quotes a name for pg_hba.conf, where quotes also take keywords and the prefixes
// + / @ their meaning. A quote or a line break inside cannot be written there, and is dropped:
// the name then matches no role.
func quoteHBA(name string) string {
	return `"` + strings.NewReplacer(`"`, "", "\n", "", "\r", "").Replace(name) + `"`
}

func quoteHBAList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteHBA(n)
	}
	return strings.Join(quoted, ",")
}
