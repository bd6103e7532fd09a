package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// Roles of a dataset cluster that Trefoil makes.
const (
	ownerRole      = "trefoil_owner"
	principalsRole = "trefoil_principals"
)

// transient are topics of which an enrolled entry need not be there.
var transient = map[string]bool{"session": true, "replication": true, "base-backup": true, "slot": true, "receiver": true}

// outward are the kinds of object that count in a source's databases: what reaches out, publishes
// or loads code. Tables are the operator's.
var outward = map[string]bool{"foreign-server": true, "wrapper": true, "extension": true, "language": true, "publication": true, "event-trigger": true}

// reasons say what a difference of a topic means.
var reasons = map[string]string{
	"session":        "a connection that is neither a gateway's nor an enrolled peer's",
	"replication":    "a replica or stream to a peer that is not enrolled",
	"base-backup":    "a base backup is being taken by a peer that is not enrolled",
	"slot":           "a replication slot that is not enrolled and no dataset's",
	"receiver":       "the server receives from a place that is not enrolled",
	"subscription":   "a subscription that is not as enrolled",
	"command":        "an archive or restore command that is not as enrolled",
	"setting":        "a setting that decides on copies, logs or code is not as enrolled",
	"login-rule":     "a rule on who may log in is not as enrolled",
	"login-order":    "the order of the rules on who may log in is not as enrolled",
	"role":           "a role that is not as enrolled",
	"member":         "a membership that is not as enrolled",
	"database":       "a database that no published definition describes",
	"tablespace":     "a place for files that is not as enrolled",
	"function":       "a function that is not as enrolled or defined",
	"closed":         "a database that the probe may not enter is not as enrolled",
	"foreign-server": "a foreign server that is not as enrolled",
	"publication":    "a publication that is not as enrolled",
	"extension":      "an extension that is not as enrolled",
}

func reason(topic string) string {
	if r := reasons[topic]; r != "" {
		return r
	}
	return "a " + topic + " that is not as enrolled or defined"
}

// datasets are the databases of a dataset cluster that hold datasets.
func (s *State) datasets(t *Target) []string {
	var out []string
	for name, c := range s.Databases {
		if t.Kind == KindDatasets && c.Owner == ownerRole {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// entries are what an enrolment has of a state: all facts of the server, and of databases that
// are no dataset what counts there.
func (s *State) entries(t *Target) []Entry {
	held := s.datasets(t)
	principals, groups := s.principals(held), map[string]bool{}
	for _, d := range held {
		groups[group(d)] = true
	}
	var out []Entry
	for _, f := range s.Facts {
		first, _, _ := strings.Cut(f.Name, " in ")
		switch {
		case t.Kind == KindDatasets && f.Topic == "database" && slices.Contains(held, f.Name),
			t.Kind == KindDatasets && f.Topic == "role" && (groups[f.Name] || principals[f.Name]),
			t.Kind == KindDatasets && f.Topic == "member" && principals[first]:
			continue
		}
		out = append(out, Entry{Topic: f.Topic, Name: f.Name, Value: f.Value})
	}
	for _, name := range s.Closed {
		out = append(out, Entry{Topic: "closed", Name: name})
	}
	for _, db := range slices.Sorted(maps.Keys(s.Databases)) {
		if slices.Contains(held, db) {
			continue
		}
		for _, o := range s.Databases[db].Objects {
			if t.Kind == KindDatasets || outward[o.Kind] {
				out = append(out, Entry{Topic: o.Kind, Database: db, Name: o.name(), Value: o.Detail})
			}
		}
	}
	return out
}

func (o *Object) name() string {
	parts := []string{}
	for _, p := range []string{o.Schema, o.Name, o.Part} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ".")
}

// group is the role that may read a dataset.
func group(dataset string) string { return identifier("dataset_" + dataset) }

// identifier cuts a name to PostgreSQL's 63 bytes as a build does.
func identifier(name string) string {
	if len(name) <= 63 {
		return name
	}
	return strings.ToValidUTF8(name[:58], "") + fmt.Sprintf("_%d", len(name))
}

// slotName is the replication slot by which a dataset follows its source.
func slotName(dataset string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, dataset)
	sum := sha256.Sum256([]byte(dataset))
	return "trefoil_" + clean[:min(len(clean), 40)] + "_" + hex.EncodeToString(sum[:4])
}

// principals are the roles that log in and may do nothing but open datasets.
func (s *State) principals(datasets []string) map[string]bool {
	in := map[string][]string{}
	for _, f := range s.Facts {
		if member, of, ok := strings.Cut(f.Name, " in "); ok && f.Topic == "member" {
			if f.Value != "" {
				of = "administers " + of
			}
			in[member] = append(in[member], of)
		}
	}
	opens := map[string]bool{principalsRole: true}
	for _, d := range datasets {
		opens[group(d)] = true
	}
	out := map[string]bool{}
	for _, f := range s.Facts {
		if f.Topic == "role" && f.Value == "login" && slices.Contains(in[f.Name], principalsRole) &&
			!slices.ContainsFunc(in[f.Name], func(g string) bool { return !opens[g] }) {
			out[f.Name] = true
		}
	}
	return out
}

// comparison is one look at one target, held against what should be.
type comparison struct {
	t          *Target
	state      *State
	enrolled   *Enrolled
	defined    map[string][]*trefoil.Definition
	principals map[string]bool
	out        []Difference
}

// compare returns every difference of one target.
func compare(t *Target, enrolled *Enrolled, s *State, defined map[string][]*trefoil.Definition) []Difference {
	c := &comparison{t: t, state: s, enrolled: enrolled, defined: defined, principals: s.principals(slices.Sorted(maps.Keys(defined)))}
	type place struct{ topic, database, name string }
	want := map[place]string{}
	for _, e := range enrolled.Entries {
		want[place{e.Topic, e.Database, e.Name}] = e.Value
	}
	have := map[place]bool{}
	for _, e := range s.entries(t) {
		at := place{e.Topic, e.Database, e.Name}
		have[at] = true
		value, known := want[at]
		switch {
		case c.expected(e):
		case known && (value == e.Value || e.Topic == "session"):
		default:
			c.add(e, value, e.Value)
		}
	}
	for _, e := range enrolled.Entries {
		if !have[place{e.Topic, e.Database, e.Name}] && !transient[e.Topic] {
			c.add(e, e.Value, "")
		}
	}
	if t.Kind == KindDatasets {
		for _, name := range s.datasets(t) {
			c.dataset(name)
		}
		for _, name := range s.Closed {
			if len(defined[name]) > 0 {
				c.differ("blind", name, name, "the probe", "", "the probe may not enter this dataset", true)
			}
		}
	}
	return c.out
}

func (c *comparison) add(e Entry, enrolled, found string) {
	if enrolled == "" && found == "" {
		found = "there"
	}
	shape := c.t.Kind == KindDatasets && slices.Contains([]string{"role", "member", "database", "closed"}, e.Topic)
	c.differ(e.Topic, e.Database, e.Name, enrolled, found, reason(e.Topic), shape)
}

func (c *comparison) differ(topic, database, name, enrolled, found, why string, shape bool) {
	c.out = append(c.out, Difference{Target: c.t.Name, Topic: topic, Database: database, Name: name, Enrolled: enrolled, Found: found, Reason: why, shape: shape})
}

// expected reports whether a fact is what Trefoil makes of published definitions, or what a
// pattern of the enrolment lets through.
func (c *comparison) expected(e Entry) bool {
	switch e.Topic {
	case "session", "replication", "base-backup":
		return c.peer(e)
	case "slot":
		return c.t.Kind == KindSource && c.ownSlot(e)
	case "role":
		return c.t.Kind == KindDatasets && (c.principals[e.Name] || e.Value == "" && c.ofDataset(e.Name))
	case "member":
		member, _, _ := strings.Cut(e.Name, " in ")
		return c.t.Kind == KindDatasets && c.principals[member]
	case "function":
		return e.Database != "" && strings.HasPrefix(e.Name, install.Schema+".") // their text is looked at by itself
	case "database-grant":
		return e.Name == install.Role && e.Value == "CONNECT"
	}
	return false
}

// sharedSlot names slots by which several datasets follow; their digits are keyed by the enclave.
var sharedSlot = regexp.MustCompile(`^trefoil_shared_[0-9a-f]{16}$`)

func (c *comparison) ownSlot(e Entry) bool {
	if !strings.HasPrefix(e.Value, "logical plugin=pgoutput ") || !strings.HasSuffix(e.Value, " temporary=f") {
		return false
	}
	if sharedSlot.MatchString(e.Name) {
		return len(c.defined) > 0
	}
	for name := range c.defined {
		if e.Name == slotName(name) {
			return true
		}
	}
	return false
}

func (c *comparison) ofDataset(role string) bool {
	for name := range c.defined {
		if role == group(name) {
			return true
		}
	}
	return false
}

// peer matches a session, stream or backup with the patterns of enrolled sessions.
func (c *comparison) peer(e Entry) bool {
	have := fields(e.Name)
	if e.Topic != "session" {
		have["backend"] = "walsender"
	}
	for _, p := range c.enrolled.Entries {
		if p.Topic == "session" && c.matches(fields(p.Name), have, e.Topic != "session") {
			return true
		}
	}
	return false
}

func (c *comparison) matches(pattern, have map[string]string, stream bool) bool {
	if len(pattern) == 0 {
		return false
	}
	for _, key := range []string{"user", "database", "application", "backend", "address", "certificate"} {
		want, named := pattern[key]
		got, told := have[key]
		switch {
		case !told && stream: // it tells less than a session
		case !told, !named, want == "":
			return false
		case key == "user" && want == "@principals":
			if !c.principals[got] {
				return false
			}
		case want == "*" || want == got:
		case key == "address" && inNetwork(want, got):
		default:
			return false
		}
	}
	return true
}

func inNetwork(network, address string) bool {
	n, err := netip.ParsePrefix(network)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(address)
	return err == nil && n.Contains(a.Unmap())
}

// fields reads key=value words.
func fields(name string) map[string]string {
	out := map[string]string{}
	for _, w := range strings.Fields(name) {
		if k, v, ok := strings.Cut(w, "="); ok {
			out[k] = v
		}
	}
	return out
}

// Session makes the name of a session's entry from what a person gives; a field not given is *.
func Session(given string) (string, error) {
	f := fields(given)
	var out []string
	for _, key := range []string{"user", "database", "application", "backend", "address", "certificate"} {
		v := f[key]
		if v == "" {
			v = "*"
		}
		delete(f, key)
		out = append(out, key+"="+v)
	}
	if len(f) > 0 || strings.TrimSpace(given) == "" {
		return "", fmt.Errorf("a peer is given as user=… database=… application=… backend=… address=… certificate=…")
	}
	return strings.Join(out, " "), nil
}
