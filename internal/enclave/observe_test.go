package enclave_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// TestObserveIsNoHole: mode observe lets in whom the source itself knows, from near by, on
// the service path, and nobody else.
func TestObserveIsNoHole(t *testing.T) {
	s := load(t)
	_, a := s.ready()
	l, err := s.rules.Config.Locator(noon)
	if err != nil {
		t.Fatal(err)
	}
	abroad, err := identity.ParseNetwork("198.51.100.0/24", "CN")
	if err != nil {
		t.Fatal(err)
	}
	office, err := identity.ParseNetwork("203.0.113.0/24", "IE")
	if err != nil {
		t.Fatal(err)
	}
	l.Networks = append(l.Networks, abroad, office)
	unlisted := identity.Principal{ID: "legacy", Service: true, Role: "legacy", Databases: []string{"shop"}, Login: []string{identity.BySource}}
	foreign, human, behind := unlisted, unlisted, unlisted
	foreign.Workplace = "CN"
	human.Service = false
	behind.ServesHumans = true
	for name, c := range map[string]struct {
		who      identity.Principal
		from     string
		bySource bool
		database string
		mode     string
		want     gateway.Path
	}{
		"this machine":                         {unlisted, "127.0.0.1", true, "shop", enclave.ModeObserve, gateway.Service},
		"the office":                           {unlisted, "203.0.113.7", true, "shop", enclave.ModeObserve, gateway.Service},
		"mode enforce":                         {unlisted, "127.0.0.1", true, "shop", enclave.ModeEnforce, gateway.Deny},
		"mode unknown":                         {unlisted, "127.0.0.1", true, "shop", "", gateway.Deny},
		"a network that nobody configured":     {unlisted, "192.0.2.1", true, "shop", enclave.ModeObserve, gateway.Deny},
		"a network outside the region":         {unlisted, "198.51.100.7", true, "shop", enclave.ModeObserve, gateway.Deny},
		"a service known to be outside":        {foreign, "127.0.0.1", true, "shop", enclave.ModeObserve, gateway.Deny},
		"somebody with a password of ours":     {unlisted, "127.0.0.1", false, "shop", enclave.ModeObserve, gateway.Deny},
		"a person":                             {human, "127.0.0.1", true, "shop", enclave.ModeObserve, gateway.Deny},
		"people behind a service":              {behind, "127.0.0.1", true, "shop", enclave.ModeObserve, gateway.Deny},
		"a dataset":                            {unlisted, "127.0.0.1", true, "care", enclave.ModeObserve, gateway.Deny},
		"a database that is no source of ours": {unlisted, "127.0.0.1", true, "postgres", enclave.ModeObserve, gateway.Deny},
	} {
		s.rules.Config.Mode = c.mode
		addr := netip.MustParseAddr(c.from)
		q := gateway.Request{Principal: c.who, Places: l.Places(c.who, addr, noon), Database: c.database, Params: map[string]string{},
			Session: strings.Repeat("ab", 16), Local: addr.IsLoopback(), BySource: c.bySource, At: noon}
		d := a.Authorise(t.Context(), q)
		if d.Path != c.want {
			t.Errorf("%s: path %d, %s", name, d.Path, d.Refusal.Message)
		}
		if d.Path == gateway.Service && !strings.Contains(d.Notice, "nobody is protected") {
			t.Errorf("%s: notice %q", name, d.Notice)
		}
	}
	// A hint from an address file is not where somebody is.
	s.rules.Config.Mode = enclave.ModeObserve
	q := gateway.Request{Principal: unlisted, Places: l.Places(unlisted, netip.MustParseAddr("192.0.2.1"), noon), Database: "shop",
		Params: map[string]string{}, Session: strings.Repeat("ab", 16), BySource: true, At: noon}
	q.Places[2].Country, q.Places[2].By = "IE", "mmdb test"
	if d := a.Authorise(t.Context(), q); d.Path != gateway.Deny {
		t.Error("a hint opens a source database")
	}
	// Whom the rules let in is let in by the rules, and hears no such notice.
	if d := a.Authorise(t.Context(), s.ask(t, "app", "shop")); d.Path != gateway.Service || d.Notice != "" {
		t.Errorf("app: path %d, notice %q", d.Path, d.Notice)
	}
}

// TestOnePersonUnderSeveralNames approves nothing for themselves: the approver's key and
// name say nothing of the principal, people.yaml does.
func TestOnePersonUnderSeveralNames(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	dir := filepath.Dir(s.rules.Config.People)
	edit := func(name, old, next string) {
		t.Helper()
		src, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(src), old) {
			t.Fatalf("%s has no %q", name, old)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Replace(string(src), old, next, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := s.approve(t, "jp", "care")
	w.grants = append(w.grants, g)
	if d := a.Authorise(t.Context(), s.ask(t, "jp", "care")); d.Path != gateway.Release {
		t.Fatalf("before: %s", d.Refusal.Message)
	}
	edit("people.yaml", "{id: jp, ", "{id: jp, same_as: ie, ")
	edit("enclave.yaml", "{name: dpo, ", "{name: dpo, principal: ie, ")
	c, err := enclave.Load(filepath.Join(dir, "enclave.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if s.rules, err = enclave.LoadRules(c); err != nil {
		t.Fatal(err)
	}
	w2, a2 := s.ready()
	w2.grants = w.grants
	if d := a2.Authorise(t.Context(), s.ask(t, "jp", "care")); d.Path != gateway.Deny {
		t.Error("dpo, who is ie, who is jp, opened a dataset for jp")
	}
	if got := fmt.Sprint(s.rules.Approvers[0].Persons); got != "[ie jp]" {
		t.Errorf("the approver is %s", got)
	}
}

func TestConfigurationOfLoginsIsChecked(t *testing.T) {
	for _, c := range []struct{ old, replacement, want string }{
		{"name: small", "name: small\nmode: watch", "mode is enforce or observe"},
		{"gateway: {", "gateway: {log_level: loud, ", "log_level"},
		{"name: small", "name: small\nidentity: {oidc: [{issuer: \"http://idp.example\", audience: a, users: [\"*@x\"], user_claim: upn}]}", "https only"},
		{"name: small", "name: small\nidentity: {oidc: [{issuer: \"https://idp.example\", audience: a, users: [\"*@*\"], user_claim: upn}]}", "at most one star"},
		{"name: small", "name: small\nidentity: {oidc: [{issuer: \"https://idp.example\", users: [\"*@x\"], user_claim: upn}]}", "audience is missing"},
		{"name: small", "name: small\nidentity: {certificates: {authority: ca, users: [{user: \"*\", cn: x}]}}", "exactly one attribute"},
		{"name: small", "name: small\nidentity: {certificates: {authority: ca, users: [{user: a, cn: x}]}}", "need TLS"},
		{"name: small", "name: small\nidentity: {certificates: {authority: ca, users: [{user: a, cn: x}], map: {employer: {from: o, values: {X: [nobody]}}}}}", `entity "nobody"`},
	} {
		if err := change(t, c.old, c.replacement); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.replacement, err, c.want)
		}
	}
}
