// Command feed measures ranking: scoring and explaining with the reference model (100 trees of 31
// leaves, 12 features), one thread.
//
// It prints lines "figure NAME VALUE UNIT …". Times are CPU time of the one thread that works
// (what else the machine does falls outside), but for percentiles, which are of the wall clock.
// LightGBM itself is not at hand in Go: the peer of explaining is the textbook algorithm that it
// uses (Lundberg et al. 2018, algorithm 2), written here in its plain form and run in turn.
package main

import (
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil/internal/people/feed/explain"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

func main() {
	dir := flag.String("data", "internal/people/feed/model/testdata", "where the reference model and its rows are")
	rounds := flag.Int("rounds", 7, "how often each side is measured; medians count")
	flag.Parse()
	if err := run(*dir, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench feed:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	m      *model.Model
	e      *explain.Explainer
	rows   [][]float64
	rounds int
}

func run(dir string, rounds int) error {
	runtime.LockOSThread() // CPU time is counted by thread
	m, rows, err := load(dir)
	if err != nil {
		return err
	}
	e, err := explain.New(m, 0)
	if err != nil {
		return err
	}
	b := &bench{m, e, rows, rounds}
	b.scoring()
	b.ranking()
	if err := b.explaining(); err != nil {
		return err
	}
	if err := b.more(); err != nil {
		return err
	}
	return b.service()
}

func load(dir string) (*model.Model, [][]float64, error) {
	file, err := unzip(filepath.Join(dir, "ranker.lightgbm.txt.gz"))
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	m, err := model.Read("ranker", file)
	if err != nil {
		return nil, nil, err
	}
	table, err := unzip(filepath.Join(dir, "rows.tsv.gz"))
	if err != nil {
		return nil, nil, err
	}
	defer table.Close()
	in, err := model.NewRows("rows", table, m, 0)
	var rows [][]float64
	for err == nil {
		var row []float64
		if row, err = in.Next(); err == nil {
			rows = append(rows, slices.Clone(row))
		}
	}
	if err != io.EOF {
		return nil, nil, err
	}
	return m, rows, nil
}

type zipped struct {
	*gzip.Reader
	file *os.File
}

func (z zipped) Close() error { return z.file.Close() }

func unzip(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return zipped{z, f}, nil
}

// cpu returns the thread's CPU time.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perRow is the median CPU time of f a row, in microseconds, over the rounds.
func (b *bench) perRow(f func(row []float64)) float64 {
	var all []float64
	for range b.rounds {
		start := cpu()
		n := 0
		for cpu()-start < 200*time.Millisecond {
			for _, row := range b.rows {
				f(row)
			}
			n += len(b.rows)
		}
		all = append(all, float64((cpu()-start).Nanoseconds())/1000/float64(n))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// scoring: rows one by one.
func (b *bench) scoring() {
	sum := 0.0
	us := b.perRow(func(row []float64) { sum += b.m.Score(row) })
	fmt.Printf("figure score_us %.2f us\n", us)
	fmt.Printf("figure score_ns_per_tree %.1f ns\n", us*1000/float64(len(b.m.Trees())))
	fmt.Printf("# sum of all scores %.3g\n", sum)
}

// ranking: 500 items scored together and sorted, wall clock.
func (b *bench) ranking() {
	var flat []float64
	for i := range 500 {
		flat = append(flat, b.rows[i%len(b.rows)]...)
	}
	scores, order := make([]float64, 500), make([]int, 500)
	var all []time.Duration
	from := cpu()
	for range 1000 {
		start := time.Now()
		b.m.ScoreRows(flat, scores)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(x, y int) int {
			switch {
			case scores[x] > scores[y]:
				return -1
			case scores[x] < scores[y]:
				return 1
			}
			return 0
		})
		all = append(all, time.Since(start))
	}
	fmt.Printf("figure rank500_cpu_ms %.3f ms\n", (cpu()-from).Seconds()*1000/float64(len(all)))
	slices.Sort(all)
	ms := func(p float64) float64 { return all[int(p*float64(len(all)-1))].Seconds() * 1000 }
	fmt.Printf("figure rank500_p50_ms %.3f ms\n", ms(0.5))
	fmt.Printf("figure rank500_p99_ms %.3f ms\n", ms(0.99))
}

// explaining: ours and the textbook's, in turn; both must say the same.
func (b *bench) explaining() error {
	ours, theirs := make([]float64, len(b.m.Features)), make([]float64, len(b.m.Features))
	book := newTextbook(b.m)
	worst := 0.0
	for _, row := range b.rows {
		b.e.Contributions(row, ours)
		book.contributions(row, theirs)
		for i := range ours {
			worst = max(worst, math.Abs(ours[i]-theirs[i]))
		}
	}
	if worst > 1e-9 {
		return fmt.Errorf("contributions differ by %g", worst)
	}
	us := b.perRow(func(row []float64) { b.e.Contributions(row, ours) })
	peer := b.perRow(func(row []float64) { book.contributions(row, theirs) })
	fmt.Printf("figure shap_us %.1f us peer algorithm-2 %.1f ratio %.2f\n", us, peer, us/peer)
	return nil
}

// more: the other explanations, without a peer.
func (b *bench) more() error {
	n := len(b.m.Features)
	pairs, phi := make([]float64, n*n), make([]float64, n)
	fmt.Printf("figure interactions_us %.1f us\n", b.perRow(func(row []float64) { b.e.Interactions(row, pairs) }))
	e, err := explain.NewInterventional(b.m, 0, b.rows[:100])
	if err != nil {
		return err
	}
	fmt.Printf("figure interventional100_us %.1f us\n", b.perRow(func(row []float64) { e.Contributions(row, phi) }))
	return nil
}
