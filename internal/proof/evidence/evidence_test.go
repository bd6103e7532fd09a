package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

var day = Period{From: time.Now().Add(-24 * time.Hour), Until: time.Now().Add(24 * time.Hour)}

// files reads a whole pack in a directory.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			out[filepath.ToSlash(rel)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tampered tries every single alteration of a pack: each must be found.
func tampered(t *testing.T, dir string) {
	t.Helper()
	honest := files(t, dir)
	if _, err := pack.Verify(dir, nil); err != nil {
		t.Fatalf("the pack itself: %v", err)
	}
	alter := func(what, name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		was, had := honest[name]
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Remove(path))
		if data != nil {
			err = os.WriteFile(path, data, 0o600)
		} else if !had {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
		unheld(t, what, dir)
		if err = os.Remove(path); had {
			err = os.WriteFile(path, was, 0o600)
		} else if data == nil {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range honest {
		if len(data) > 0 {
			altered := bytes.Clone(data)
			altered[len(data)/2] ^= 1
			alter("one byte of "+name+" flipped", name, altered)
		}
		alter(name+" removed", name, nil)
		if !strings.HasPrefix(name, "receipts/") { // one of each sort is enough of what follows
			alter(name+" cut", name, data[:len(data)-min(1, len(data))])
			alter("a byte after "+name, name, append(bytes.Clone(data), '\n'))
		}
	}
	for _, added := range []string{"note.txt", "receipts/x/99", "own/more", "zzz", ".hidden", "Ä"} {
		alter(added+" added", added, []byte("x"))
	}
	if _, err := pack.Verify(dir, nil); err != nil {
		t.Fatalf("the pack as it was: %v", err)
	}
}

func TestAnEvidencePackVerifiesAloneAndNoAlterationDoes(t *testing.T) {
	w := newWorld(t)
	w.look("chen", 5) // an enumeration by these rules
	w.follow()
	w.look("aoife", 1)
	a := w.follow()
	wanted := day
	wanted.Records = []pack.ReceiptOf{{Origin: origin, Index: 1}, {Origin: origin, Index: 4000}}
	ctx := context.Background()
	ownLogHas(t, w, 8)
	for _, name := range []string{"evidence", "evidence.zip"} {
		path := filepath.Join(t.TempDir(), name)
		e, r, err := Pack(ctx, a, wanted, time.Now(), path)
		if err != nil {
			t.Fatal(err)
		}
		if e.ByRule["anomaly-enumeration"] != 1 || e.Incidents == 0 || len(e.Receipts) < 5 || len(e.Absent) != 1 || e.Sizes[origin] == 0 {
			t.Errorf("%+v", e)
		}
		proven := strings.Join(r.Proven, "\n")
		for _, want := range []string{"heads of " + origin, "receipts: logged, witnessed", "findings of the period", "a chain without a gap", "of the monitor's own log", "issued"} {
			if !strings.Contains(proven, want) {
				t.Errorf("nothing is proven of %q:\n%s", want, proven)
			}
		}
		keys, err := a.Public()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pack.Verify(path, []string{keys[monitor.UseStatement], keys[monitor.UseLog], w.logKey}); err != nil {
			t.Error(err)
		}
		unheld(t, "another signer is believed", path, keys[monitor.UseLog])
		if name == "evidence" {
			for path, data := range files(t, path) {
				for _, secret := range []string{"aoife", "chen", "bodies\n", "PRIVATE", w.dir} {
					if bytes.Contains(data, []byte(secret)) {
						t.Errorf("%s holds %q", path, secret)
					}
				}
			}
			tampered(t, path)
		} else {
			tamperedZip(t, path)
		}
	}
}

// ownLogHas waits until the monitor's own log holds n decisions.
func ownLogHas(t *testing.T, w *world, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() { _ = w.m.Run(ctx) }()
	for ctx.Err() == nil {
		a, err := monitor.OpenArchive(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := a.OwnLog()
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := r.Checkpoint(ctx)
		_ = r.Close()
		if err == nil && c.Size >= n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the decisions do not come into the own log")
}

// tamperedZip tries what a zip file can do besides.
func tamperedZip(t *testing.T, path string) {
	t.Helper()
	honest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(change func(z *zip.Writer, f *zip.File) error) string {
		t.Helper()
		r, err := zip.NewReader(bytes.NewReader(honest), int64(len(honest)))
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "p.zip")
		file, err := os.Create(out)
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(file)
		for _, f := range r.File {
			err = errors.Join(err, change(z, f))
		}
		if err := errors.Join(err, change(z, nil), z.Close(), file.Close()); err != nil {
			t.Fatal(err)
		}
		return out
	}
	copied := func(z *zip.Writer, f *zip.File) error {
		if f == nil {
			return nil
		}
		return z.Copy(f)
	}
	if _, err := pack.Verify(write(copied), nil); err != nil {
		t.Fatalf("the copy itself: %v", err)
	}
	add := func(h zip.FileHeader, data string) func(z *zip.Writer, f *zip.File) error {
		return func(z *zip.Writer, f *zip.File) error {
			if f != nil {
				return z.Copy(f)
			}
			out, err := z.CreateHeader(&h)
			if err != nil {
				return err
			}
			_, err = io.WriteString(out, data)
			return err
		}
	}
	link := zip.FileHeader{Name: "link"}
	link.SetMode(fs.ModeSymlink | 0o777)
	for what, h := range map[string]zip.FileHeader{
		"a file added": {Name: "added"}, "a path out of the pack": {Name: "../../etc/cron.d/x"}, "an absolute path": {Name: "/etc/passwd"},
		"a path with backslashes": {Name: `..\x`}, "a drive": {Name: "c:x"}, "a directory": {Name: "dir/"}, "a name twice": {Name: "evidence.json"},
		"a symbolic link": link, "a name in capitals": {Name: "EVIDENCE.JSON"}, "a name with a zero byte": {Name: "a\x00b"},
	} {
		unheld(t, what, write(add(h, map[bool]string{false: "x"}[strings.HasSuffix(h.Name, "/")])))
	}
	unheld(t, "a file removed", write(func(z *zip.Writer, f *zip.File) error {
		if f != nil && f.Name == "findings.jsonl" {
			return nil
		}
		return copied(z, f)
	}))
	for at := 0; at < len(honest); at += len(honest)/40 + 1 { // never another error than a refusal, never a fault
		altered := bytes.Clone(honest)
		altered[at] ^= 0x41
		out := filepath.Join(t.TempDir(), "p.zip")
		if err := os.WriteFile(out, altered, 0o600); err != nil {
			t.Fatal(err)
		}
		var no *trefoil.VerifyError
		if _, err := pack.Verify(out, nil); err != nil && !errors.As(err, &no) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	bomb(t)
}

// bomb: a small file that unpacks to gigabytes is not unpacked.
func bomb(t *testing.T) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bomb.zip")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(file)
	for _, name := range []string{"manifest", "keys.json", "files"} {
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		for range 200 {
			if _, err := f.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(z.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	unheld(t, "a bomb", out)
}

// TestAMonitorMayCosignAndPermitUnderOneName: keys of one name and another algorithm are not in
// each other's place; a key in the place of a believed one is found.
func TestAMonitorMayCosignAndPermitUnderOneName(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 3)
	dir := t.TempDir()
	key := func(use, name, file string) string {
		vkey, err := monitor.NewKey(use, name, filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return vkey
	}
	k := w.siteKeys()
	witness, permit := nameOf(k.Witnesses[0]), nameOf(k.Permit)
	path := filepath.Join(dir, "sample")
	if _, _, err := Draw(context.Background(), w.reader(), Sample{Seed: "drawn by lot in Cork", N: 2}, k, time.Now(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Verify(path, []string{k.Log, key(monitor.UsePermit, witness, "1"), key(monitor.UseWitness, permit, "2")}); err != nil {
		t.Errorf("keys of the same names for something else: %v", err)
	}
	unheld(t, "another permit key is believed", path, k.Log, key(monitor.UsePermit, permit, "3"))
	unheld(t, "another witness is believed", path, k.Log, key(monitor.UseWitness, witness, "4"))
}

func nameOf(vkey string) string { name, _, _ := strings.Cut(vkey, "+"); return name }

// TestALinkInADirectoryIsRefused: a pack reads nothing outside itself.
func TestALinkInADirectoryIsRefused(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "evidence")
	if _, _, err := Pack(context.Background(), w.follow(), day, time.Now(), path); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "findings.jsonl")
	if err := errors.Join(os.Rename(filepath.Join(path, "findings.jsonl"), outside), os.Symlink(outside, filepath.Join(path, "findings.jsonl"))); err != nil {
		t.Fatal(err)
	}
	unheld(t, "a link", path)
}

// TestAPackSignedBySomebodyElseDoesNotHold: whoever makes a whole new pack under keys of their own
// with the same names is found by who gives the monitor's keys.
func TestAPackSignedBySomebodyElseDoesNotHold(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	path := filepath.Join(t.TempDir(), "evidence.zip")
	if _, _, err := Pack(context.Background(), other.follow(), day, time.Now(), path); err != nil {
		t.Fatal(err)
	}
	keys, err := w.follow().Public()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Verify(path, nil); err != nil {
		t.Fatal(err) // it is whole under its own keys: the report says that this proves nothing of whose they are
	}
	unheld(t, "another's pack", path, keys[monitor.UseStatement])
}

func TestAnOrderHoldsUntilSomethingGoesThere(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 3)
	a := w.follow()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "order")
	since := time.Now().Add(-time.Hour)
	o, r, err := Order(ctx, a, "CN", since, time.Now(), path)
	if err != nil || !o.Holds || r == nil {
		t.Fatalf("%+v, %v", o, err)
	}
	if l := o.Logs[0]; l.Begin != 0 || l.End != 6 || !strings.Contains(strings.Join(r.Proven, "\n"), "none of records 0 to 6 of "+origin) {
		t.Errorf("%+v: %v", l, r.Proven)
	}
	tampered(t, path)

	at := time.Now().Add(time.Second) // witnesses' clocks have seconds
	for time.Now().Before(at.Add(time.Second)) {
		time.Sleep(50 * time.Millisecond)
	}
	w.look("chen", 1)
	path = filepath.Join(t.TempDir(), "order.zip")
	o, _, err = Order(ctx, w.follow(), "CN", since, time.Now(), path)
	if err != nil || o.Holds || o.Logs[0].Of != 3 { // the start with its allowance, the release, the end
		t.Fatalf("%+v, %v", o.Logs[0], err)
	}
	unheld(t, "an order that does not hold", path)
	o, _, err = Order(ctx, w.follow(), "BR", at, time.Now(), filepath.Join(t.TempDir(), "later.zip"))
	if err != nil || !o.Holds || o.Logs[0].Begin != 6 || o.Logs[0].Before.After(at) {
		t.Errorf("an order from the kept head on: %+v, %v", o.Logs[0], err)
	}
}

// TestAnOrderWithABodyGoneDoesNotHold: what nobody can read excludes nothing.
func TestAnOrderWithABodyGoneDoesNotHold(t *testing.T) {
	w := newWorld(t)
	w.add(&trefoil.Body{Kind: trefoil.KindSite, Site: &trefoil.SiteBody{Country: "IE", Event: "started", Part: "gateway", Site: "dublin-1"}})
	if err := w.log.DeleteBody(1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "order")
	o, _, err := Order(context.Background(), w.follow(), "CN", time.Now().Add(-time.Hour), time.Now(), path)
	if err != nil || o.Holds || !slices.Equal(o.Logs[0].NoBody, []uint64{1}) {
		t.Fatalf("%+v, %v", o, err)
	}
	unheld(t, "a gap", path)
}

func TestADrawIsOpenedAtTheSite(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 4)
	if err := w.log.DeleteBody(2); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "draw")
	d, r, err := Draw(ctx, w.reader(), Sample{Seed: "the inspector's seed", N: 100}, w.siteKeys(), time.Now(), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Indexes) != 7 || !strings.Contains(strings.Join(r.Proven, "\n"), "6 records were drawn") {
		t.Errorf("%+v: %v", d.Indexes, r.Proven)
	}
	opened := 0
	for name, data := range files(t, path) {
		if strings.HasPrefix(name, "openings/") {
			opened++
			if len(data) != 64 {
				t.Errorf("%s has %d bytes", name, len(data))
			}
		}
	}
	if opened != 3 {
		t.Errorf("%d releases are opened, want the three that are left", opened)
	}
	tampered(t, path)
	d, _, err = Draw(ctx, w.reader(), Sample{Seed: "the inspector's seed", N: 2, Kind: trefoil.KindRelease}, w.siteKeys(), time.Now(), filepath.Join(t.TempDir(), "r.zip"))
	if err != nil || len(d.Indexes) < 2 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, _, err := Draw(ctx, w.reader(), Sample{Seed: "short", N: 2}, w.siteKeys(), time.Now(), filepath.Join(t.TempDir(), "s.zip")); err == nil {
		t.Error("a seed of five letters is taken")
	}
}

// anotherSeed finds one that draws another record first: of a few records some seeds draw the same.
func anotherSeed(t *testing.T, w *world, d *pack.Drawn) string {
	t.Helper()
	k := w.siteKeys()
	trust, err := trefoil.ParseTrust(k.Log, append(slices.Clone(k.Witnesses), k.Permit))
	if err != nil {
		t.Fatal(err)
	}
	head, err := trust.VerifyCheckpoint([]byte(d.Head))
	if err != nil {
		t.Fatal(err)
	}
	for seed := d.Seed + "!"; ; seed += "!" {
		next, err := register.NewDraw(seed, head)
		if err != nil {
			t.Fatal(err)
		}
		if index, _ := next.Next(); index != d.Indexes[0].Index {
			return seed
		}
	}
}

// TestADrawShowsWhatTheMonitorRefused: a record that asked for a release and got no permit is in the
// log too, and in the sample it is said to be such a one.
func TestADrawShowsWhatTheMonitorRefused(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 1)
	a := w.access("chen")
	w.add(&trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: a, Allowance: 100, Event: "start", Path: "release"}})
	path := filepath.Join(t.TempDir(), "draw")
	d, r, err := Draw(context.Background(), w.reader(), Sample{Seed: "the inspector's seed", N: 100}, w.siteKeys(), time.Now(), path)
	if err != nil {
		t.Fatal(err)
	}
	var without []uint64
	for _, x := range d.Indexes {
		if x.NoPermit {
			without = append(without, x.Index)
		}
	}
	if !slices.Equal(without, []uint64{4}) || !strings.Contains(strings.Join(r.Caveats, "\n"), "that 1 of the records, which have no permit here") {
		t.Errorf("without a permit %v: %v", without, r.Caveats)
	}
	tampered(t, path)
}

// TestADrawThatPassesOverARecordDoesNotHold: the site signs its own sample, so it could leave out
// what it does not like; the verifier draws again.
func TestADrawThatPassesOverARecordDoesNotHold(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 4)
	ctx := context.Background()
	honest := filepath.Join(t.TempDir(), "draw")
	d, _, err := Draw(ctx, w.reader(), Sample{Seed: "the inspector's seed", N: 3}, w.siteKeys(), time.Now(), honest)
	if err != nil {
		t.Fatal(err)
	}
	all := files(t, honest)
	for what, change := range map[string]func(d *pack.Drawn){
		"passed over":         func(d *pack.Drawn) { d.Indexes = d.Indexes[1:] },
		"fewer than wanted":   func(d *pack.Drawn) { d.Indexes = d.Indexes[:2] },
		"another order":       func(d *pack.Drawn) { d.Indexes[0], d.Indexes[1] = d.Indexes[1], d.Indexes[0] },
		"another seed":        func(d *pack.Drawn) { d.Seed = anotherSeed(t, w, d) },
		"permits not shown":   func(d *pack.Drawn) { d.Indexes[0].NoPermit = true },
		"a receipt not shown": func(d *pack.Drawn) { d.Indexes[0].Index++ },
	} {
		forged := *d
		forged.Indexes = slices.Clone(d.Indexes)
		change(&forged)
		path := filepath.Join(t.TempDir(), "forged.zip")
		p, err := pack.NewWriter(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range all {
			if strings.HasPrefix(name, "receipts/") || strings.HasPrefix(name, "openings/") {
				err = errors.Join(err, p.Add(name, data))
			}
		}
		k := w.siteKeys()
		err = errors.Join(err, p.AddJSON("draw.json", forged), p.Finish(pack.Manifest{At: time.Now(), Kind: pack.KindDraw, Name: origin},
			pack.Keys{Signer: k.Log, Witnesses: k.Witnesses, Permit: k.Permit, Logs: []pack.LogKey{{Origin: origin, Hash: logHash(origin), Key: k.Log}}}, k.Signer))
		if err != nil {
			t.Fatal(err)
		}
		unheld(t, what, path)
	}
}

func TestMirrorAndSiteMakeTheSameRegister(t *testing.T) {
	w := newWorld(t)
	w.look("chen", 3)
	w.look("aoife", 2)
	a := w.follow()
	inside, err := Inside(a)
	if err != nil {
		t.Fatal(err)
	}
	r := w.reader()
	c, _, err := r.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mirror, err := register.BuildTransfers(Mirror(a), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	site, err := register.BuildTransfers(Site(r, c.Size), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	if len(mirror.Lines) != 1 || len(site.Lines) != 1 || mirror.Lines[0].Root != site.Lines[0].Root || mirror.Lines[0].Bytes != 150 || mirror.Lines[0].Covered != 10 {
		t.Errorf("mirror %+v, site %+v", mirror.Lines, site.Lines)
	}
}

// TestADossierTellsWhatBecameOfAClaim: claim, test, first failure, awareness, notification.
func TestADossierTellsWhatBecameOfAClaim(t *testing.T) {
	w := newWorld(t)
	w.look("aoife", 1)
	claims, err := register.ParseClaims("claims.yaml", []byte(`version: 1
claims:
  - { id: no-china, text: "Nothing goes to China.", published: "2026-01-01", where: https://example.eu, contradicted_by: { to: [CN], findings: [anomaly-enumeration] } }
  - { id: no-brazil, text: "Nothing goes to Brazil.", published: "2026-01-01", where: https://example.eu, contradicted_by: { to: [BR] } }
`))
	if err != nil {
		t.Fatal(err)
	}
	dossiers := func(a *monitor.Archive) []*Dossier {
		t.Helper()
		all, err := w.m.Incidents().List(func(*incident.Incident) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		out, err := Dossiers(a, claims, all)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, d := range dossiers(w.follow()) {
		if !d.Holds || d.First != nil || !d.Aware.IsZero() {
			t.Errorf("before anything happened: %+v", d)
		}
	}
	w.look("chen", 5)
	a := w.follow()
	all := dossiers(a)
	d := all[0]
	if d.Holds || d.Failures != 8 || d.First.What != "something went to CN" || d.Aware.Before(d.First.At.Add(-time.Minute)) || len(d.Records) != 7 || len(d.Incidents) != 1 || len(d.Incidents[0].Due) == 0 {
		t.Errorf("%+v", d)
	}
	if !all[1].Holds {
		t.Errorf("%+v", all[1])
	}
	for range 2 { // a second look joins the incident that is open
		ids, err := OpenContradictions(w.m.Incidents(), all)
		if err != nil || len(ids) != 1 {
			t.Fatalf("%v, %v", ids, err)
		}
	}
	if n := len(dossiers(a)[0].Incidents); n != 2 {
		t.Errorf("%d incidents: want the finding's and the claim's", n)
	}
}
