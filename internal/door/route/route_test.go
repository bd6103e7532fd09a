package route

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// said is a member that answers what a test wants.
type said struct {
	a   Answer
	err error
}

func (s *said) Ask(context.Context) (Answer, error) { return s.a, s.err }

func primary(timeline, position int64) said {
	return said{a: Answer{Role: Primary, Timeline: timeline, Position: position}}
}
func replica(position int64) said { return said{a: Answer{Role: Replica, Position: position}} }

var errSilent = errors.New("no answer")

// cluster makes a router over members a, b, c … and a function that asks them once.
func cluster(t *testing.T, members ...*said) (*Router, *[]string) {
	t.Helper()
	var changes []string
	c := Config{Name: "shop", MaxLag: 100, Changed: func(from, to string) { changes = append(changes, from+">"+to) }}
	for i, m := range members {
		c.Members = append(c.Members, Member{Address: string(rune('a' + i)), Asker: m})
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Ask(t.Context())
	return r, &changes
}

func wantPrimary(t *testing.T, r *Router, want string, wantErr error) {
	t.Helper()
	if got, err := r.Primary(); got != want || !errors.Is(err, wantErr) {
		t.Errorf("primary %q, %v; want %q, %v", got, err, want, wantErr)
	}
}

func TestAPromotedReplicaTakesOver(t *testing.T) {
	a, b := primary(1, 1000), replica(1000)
	r, changes := cluster(t, &a, &b)
	wantPrimary(t, r, "a", nil)
	a.err = errSilent
	r.Ask(t.Context())
	wantPrimary(t, r, "a", nil) // a slow answer is no failover
	b = primary(2, 1010)
	r.Ask(t.Context())
	wantPrimary(t, r, "b", nil)
	if got := strings.Join(*changes, " "); got != ">a a>b" {
		t.Errorf("changes told: %s", got)
	}
}

// TestAnOldPrimaryThatComesBackIsNotBelieved: a site that was cut off still takes writes that
// nobody else sees, and says that it is the primary.
func TestAnOldPrimaryThatComesBackIsNotBelieved(t *testing.T) {
	a, b := primary(1, 1000), replica(1000)
	r, _ := cluster(t, &a, &b)
	b = primary(2, 1010)
	r.Ask(t.Context())
	wantPrimary(t, r, "b", nil)
	b.err = errSilent // and now the new one is away for a moment
	r.Ask(t.Context())
	wantPrimary(t, r, "b", nil)
	b = replica(1010)
	r.Ask(t.Context())
	wantPrimary(t, r, "", ErrNoPrimary)
}

// TestTwoPrimariesMeanNone: writes must not go to two histories of the same data.
func TestTwoPrimariesMeanNone(t *testing.T) {
	a, b := primary(3, 1000), primary(3, 1000)
	r, _ := cluster(t, &a, &b)
	wantPrimary(t, r, "", ErrTwoPrimary)
	if _, err := r.ReadOnly(); err == nil {
		t.Error("a read-only session was sent to one of two histories")
	}
	b = replica(900)
	r.Ask(t.Context())
	wantPrimary(t, r, "a", nil)
}

// TestACopyOfASilentPrimaryIsNotBelieved: a promotion begins a new timeline. A member that takes
// writes on the timeline of the silent primary was started from a copy of it.
func TestACopyOfASilentPrimaryIsNotBelieved(t *testing.T) {
	a, b := primary(3, 1000), replica(1000)
	r, _ := cluster(t, &a, &b)
	a.err, b = errSilent, primary(3, 990)
	r.Ask(t.Context())
	wantPrimary(t, r, "", ErrTwoPrimary)
}

func TestReadOnlySessionsGoToTheNearestFreshReplica(t *testing.T) {
	near, far, main := replica(500), replica(950), primary(1, 1000)
	r, _ := cluster(t, &near, &far, &main)
	want := func(address string) {
		t.Helper()
		if got, err := r.ReadOnly(); got != address || err != nil {
			t.Errorf("read-only sessions go to %q (%v), want %q", got, err, address)
		}
	}
	want("b") // a is nearer, and 500 bytes behind
	near = replica(990)
	r.Ask(t.Context())
	want("a")
	near.err, far.err = errSilent, errSilent
	r.Ask(t.Context())
	want("c")
	if s := r.States(); s[0].Role != Unknown || s[0].Error == "" || s[2].Role != Primary {
		t.Errorf("states: %+v", s)
	}
}

// TestAStaleAnswerIsNoFreshReplica: the questions stopped being asked; what is known of a replica
// is old, and nothing says that it still follows.
func TestAStaleAnswerIsNoFreshReplica(t *testing.T) {
	now := time.Unix(1000, 0)
	near, main := replica(1000), primary(1, 1000)
	r, err := New(Config{Name: "shop", Members: []Member{{"a", &near}, {"b", &main}}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	r.Ask(t.Context())
	now = now.Add(time.Minute)
	if got, err := r.ReadOnly(); got != "b" || err != nil {
		t.Errorf("a read-only session went to %q, %v", got, err)
	}
}

func TestPatroniMembers(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		want Answer
		bad  string
	}{
		"leader":    {200, `{"state":"running","role":"master","timeline":7,"xlog":{"location":4711}}`, Answer{Role: Primary, Timeline: 7, Position: 4711}, ""},
		"leader 4":  {200, `{"state":"running","role":"primary","timeline":8,"xlog":{"location":1},"unknown":[1]}`, Answer{Role: Primary, Timeline: 8, Position: 1}, ""},
		"replica":   {503, `{"state":"streaming","role":"replica","timeline":7,"xlog":{"received_location":99,"replayed_location":42}}`, Answer{Role: Replica, Position: 42}, ""},
		"starting":  {503, `{"state":"starting","role":"replica"}`, Answer{}, "not running"},
		"lost lock": {503, `{"state":"running","role":"master","timeline":7,"xlog":{"location":4711}}`, Answer{}, "no leader's lock"},
		"no json":   {200, `<html>`, Answer{}, "not a member's status"},
		"too much":  {200, `{"state":"` + strings.Repeat("x", mostStatus), Answer{}, "not a member's status"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/primary" {
					t.Errorf("asked for %s", req.URL.Path)
				}
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			got, err := Patroni{URL: s.URL}.Ask(t.Context())
			if got != c.want || (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
