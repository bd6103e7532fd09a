package postgres

import (
	"strings"
	"testing"
)

func TestNoNameBreaksOutOfItsLineInTheAccessFiles(t *testing.T) {
	evil := "x\" 0.0.0.0/0 trust\nhost all all 0.0.0.0/0 trust #"
	a := Access{GatewayName: evil, GatewayUsers: []string{evil, "all", "+admins"}, PeerNames: []string{evil}, PeerUser: evil, Principals: evil, Never: []string{evil}}
	for _, line := range strings.Split(a.hba(evil, true)+a.ident(), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "host" && !strings.HasSuffix(line, " reject") {
			t.Errorf("a line lets in over plain TCP: %s", line)
		}
		if strings.Count(line, `"`)%2 != 0 {
			t.Errorf("open quote: %s", line)
		}
		if strings.HasSuffix(line, " trust") {
			t.Errorf("a line trusts: %s", line)
		}
	}
	if hba := a.hba("postgres", true); !strings.Contains(hba, `"all"`) || !strings.Contains(hba, `"+admins"`) {
		t.Error("keywords and group prefixes are not quoted away")
	}
}

func TestWithoutTLSNobodyComesOverTCP(t *testing.T) {
	a := DatasetAccess()
	for _, line := range strings.Split(a.hba("postgres", false), "\n") {
		if strings.HasPrefix(line, "host") && !strings.HasSuffix(line, "reject") {
			t.Errorf("without TLS: %s", line)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("it's")
	f.Add("a\\\nb = 'c'")
	f.Fuzz(func(t *testing.T, v string) {
		q := quoteSetting(v)
		if strings.ContainsAny(q, "\n\r") || len(q) < 2 || q[0] != '\'' || q[len(q)-1] != '\'' {
			t.Errorf("setting %q is written as %q", v, q)
		}
		inner := strings.NewReplacer(`\\`, "", "''", "").Replace(q[1 : len(q)-1])
		if strings.ContainsAny(inner, `'\`) {
			t.Errorf("setting %q is written as %q", v, q)
		}
	})
}

// A principal may give its own role a password. The socket rejects members of the group
// before any line that would take it.
func TestPrincipalsDoNotComeByTheSocket(t *testing.T) {
	seen := false
	for _, line := range strings.Split(DatasetAccess().hba("postgres", true), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "local" || f[1] == "replication" {
			continue
		}
		switch who := strings.Trim(f[2], `"`); {
		case f[2] == `+"`+PrincipalsRole+`"` && f[3] == "reject":
			seen = true
		case !seen && who != "postgres" && who != StewardRole && who != OwnerRole:
			t.Errorf("before principals are rejected: %s", line)
		}
	}
	if !seen {
		t.Error("principals are not rejected")
	}
}
