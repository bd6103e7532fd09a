package accesslog_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// childVariable makes the test binary an appender that gets killed.
const childVariable = "TREFOIL_TEST_APPENDER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		if err := appendUntilKilled(spec); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// appendUntilKilled appends with 20 goroutines and prints `ack INDEX SALT` for each record
// that was witnessed, `put SALT` for each that was appended.
func appendUntilKilled(spec string) error {
	var dir, skey, url, vkey string
	if _, err := fmt.Sscan(spec, &dir, &skey, &url, &vkey); err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	l, err := accesslog.Open(context.Background(), accesslog.Config{Origin: origin, Directory: dir, Signer: signer,
		Witnesses: []accesslog.Witness{{URL: url, Key: vkey}}})
	if err != nil {
		return err
	}
	fmt.Println("open")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for {
				r, err := trefoil.NewRecord(&trefoil.Body{At: time.Now(), Kind: trefoil.KindIncident, Origin: origin, Incident: &trefoil.IncidentBody{Event: "opened"}})
				if err != nil {
					return
				}
				ticket, err := l.Append(context.Background(), r, []byte("opening"))
				if err != nil {
					return
				}
				salt := base64.StdEncoding.EncodeToString(r.Salt)
				fmt.Println("put", salt)
				p, err := ticket.Witnessed(context.Background())
				if err != nil {
					return
				}
				fmt.Println("ack", p.Index, salt)
			}
		})
	}
	wg.Wait()
	return errors.New("appenders ended by themselves")
}

// TestKilledAtRandomLosesNothing kills a process with 20 appends in flight, again and again:
// whatever was acknowledged as appended is in the log with its body, at one index, under the
// index that was acknowledged.
func TestKilledAtRandomLosesNothing(t *testing.T) {
	f := newFixture(t, 1)
	skey, vkey := generate(t)
	f.rekey(t, skey, vkey)
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	put, ack := map[string]bool{}, map[string]uint64{}
	for round := range rounds {
		killOnce(t, f, skey, time.Duration(rand.IntN(400))*time.Millisecond, put, ack)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if len(ack) == 0 || len(put) <= len(ack) {
		t.Fatalf("%d appended and %d acknowledged: the kills hit nothing in flight", len(put), len(ack))
	}
	l := f.open(t)
	size := witnessed(t, appendRecord(t, l, record(t, 1))).Index + 1
	verifyAll(t, f, size)
	checkBodies(t, f, l, size, put, ack)
}

func checkBodies(t *testing.T, f *fixture, l *accesslog.Log, size uint64, put map[string]bool, ack map[string]uint64) {
	t.Helper()
	at := map[string]uint64{}
	for i := range size {
		r, _, err := l.Body(i)
		if err != nil {
			t.Fatalf("body %d: %v", i, err)
		}
		salt := base64.StdEncoding.EncodeToString(r.Salt)
		if j, twice := at[salt]; twice {
			t.Fatalf("one record is in the log at %d and %d", j, i)
		}
		at[salt] = i
	}
	for salt := range put {
		if _, ok := at[salt]; !ok {
			t.Fatal("an appended record is not in the log")
		}
	}
	for salt, index := range ack {
		if at[salt] != index {
			t.Fatalf("record acknowledged at %d is at %d", index, at[salt])
		}
	}
	for _, i := range []uint64{0, size / 2, size - 1} {
		receipt, err := l.Receipt(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.trust.VerifyReceipt(receipt); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d records, %d appended, %d acknowledged", size, len(put), len(ack))
}

func killOnce(t *testing.T, f *fixture, skey string, after time.Duration, put map[string]bool, ack map[string]uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	w := f.config.Witnesses[0]
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{f.config.Directory, skey, w.URL, w.Key}, " "))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch fields := strings.Fields(lines.Text()); fields[0] {
		case "open":
			time.AfterFunc(100*time.Millisecond+after, func() { _ = cmd.Process.Kill() })
		case "put":
			put[fields[1]] = true
		case "ack":
			var index uint64
			if _, err := fmt.Sscan(fields[1], &index); err != nil || len(fields) != 3 {
				continue // the line was cut by the kill
			}
			ack[fields[2]] = index
		default:
			t.Error(lines.Text())
		}
	}
	_ = cmd.Wait()
	for salt := range put {
		if len(salt) != 44 {
			delete(put, salt) // cut by the kill
		}
	}
}

func TestSecondProcessIsToldThatTheDirectoryIsInUse(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	if _, err := accesslog.Open(t.Context(), f.config); !errors.Is(err, accesslog.ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
	closeLog(t, l)
	closeLog(t, f.open(t))
}

// damage is done to a closed log's directory; after it the log must open and be whole again.
func TestRecoveryFromLostFiles(t *testing.T) {
	site := func(f *fixture, name string) string {
		return filepath.Join(f.config.Directory, accesslog.PrivateDir, name)
	}
	for name, damage := range map[string]func(t *testing.T, f *fixture){
		"no starting point": func(t *testing.T, f *fixture) { remove(t, site(f, "clean.json")) },
		"no index": func(t *testing.T, f *fixture) {
			remove(t, site(f, "clean.json"))
			remove(t, site(f, "bodies.index"))
		},
		"index cut and torn": func(t *testing.T, f *fixture) {
			remove(t, site(f, "clean.json"))
			if err := os.Truncate(site(f, "bodies.index"), 50); err != nil {
				t.Fatal(err)
			}
		},
		"segment torn at its end": func(t *testing.T, f *fixture) {
			remove(t, site(f, "clean.json"))
			names, _ := filepath.Glob(site(f, "segments/*.bodies"))
			file, err := os.OpenFile(names[len(names)-1], os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.WriteString("TFR1\x01\x00\x00\x00\x40\x00\x00\x00torn")
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 1)
			l := f.open(t)
			var last *accesslog.Ticket
			for i := range 10 {
				last = appendRecord(t, l, record(t, i))
			}
			witnessed(t, last)
			closeLog(t, l)
			damage(t, f)
			l = f.open(t)
			witnessed(t, appendRecord(t, l, record(t, 10)))
			verifyAll(t, f, 11)
			for i := range uint64(11) {
				if _, _, err := l.Body(i); err != nil {
					t.Errorf("body %d: %v", i, err)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestRolledBackTreeIsRefused(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 0)))
	closeLog(t, l)
	backup := t.TempDir()
	if err := os.CopyFS(filepath.Join(backup, "log"), os.DirFS(filepath.Join(f.config.Directory, accesslog.PublicDir))); err != nil {
		t.Fatal(err)
	}
	l = f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 1)))
	closeLog(t, l)
	public := filepath.Join(f.config.Directory, accesslog.PublicDir)
	if err := errors.Join(os.RemoveAll(public), os.Rename(filepath.Join(backup, "log"), public)); err != nil {
		t.Fatal(err)
	}
	if _, err := accesslog.Open(t.Context(), f.config); err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Fatalf("Open of a tree that lost an entry: %v", err)
	}
}

func TestAlteredBodyIsNeverServed(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	r := record(t, 0)
	witnessed(t, appendRecord(t, l, r))
	names, _ := filepath.Glob(filepath.Join(f.config.Directory, accesslog.PrivateDir, "segments", "*.bodies"))
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	altered := strings.Replace(string(data), "site-0", "site-9", 1)
	if err := os.WriteFile(names[0], []byte(altered), 0o600); err != nil || altered == string(data) {
		t.Fatal("nothing was altered")
	}
	if _, _, err := l.Body(0); err == nil {
		t.Fatal("an altered body was returned")
	}
	if _, err := l.Receipt(t.Context(), 0); err == nil {
		t.Fatal("a receipt was made of an altered body")
	}
}
