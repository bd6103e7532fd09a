package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
)

// service: the whole way of a request, from its values to the stored decision, without and
// with HTTP and JSON around it; and what a decision takes.
func (b *bench) service() (err error) {
	dir, err := os.MkdirTemp("", "trefoil-bench-feed-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := demo.Write(dir) // the same model, with its words
	if err != nil {
		return err
	}
	s, err := feed.OpenMemory(context.Background(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := b.storage(); err != nil {
		return err
	}
	q := b.request(500)
	from := cpu()
	for range 200 {
		if _, err := s.Rank(context.Background(), q); err != nil {
			return err
		}
	}
	fmt.Printf("figure rank_cpu_ms %.3f ms\n", (cpu()-from).Seconds()*1000/200)
	err = percentiles("rank", func() error { _, err := s.Rank(context.Background(), q); return err })
	if err != nil {
		return err
	}
	return b.http(s.Service, q)
}

// http: over loopback, the client's work included.
func (b *bench) http(s *feed.Service, q *feed.Request) error {
	h, err := s.Handler("bench")
	if err != nil {
		return err
	}
	server := httptest.NewServer(h)
	defer server.Close()
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return percentiles("rank_http", func() error {
		r, err := http.NewRequest(http.MethodPost, server.URL+"/rank", bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer bench")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("rank: status %d", resp.StatusCode)
		}
		return err
	})
}

// percentiles prints the wall-clock times of 1,000 calls, one after the other.
func percentiles(name string, call func() error) error {
	var all []time.Duration
	for range 1000 {
		start := time.Now()
		if err := call(); err != nil {
			return err
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	ms := func(p float64) float64 { return all[int(p*float64(len(all)-1))].Seconds() * 1000 }
	fmt.Printf("figure %s_p50_ms %.3f ms\nfigure %s_p99_ms %.3f ms\n", name, ms(0.5), name, ms(0.99))
	return nil
}

// request ranks n items of the reference rows, with ids as platforms give them: 63 random bits.
func (b *bench) request(n int) *feed.Request {
	r := rand.New(rand.NewPCG(5, 5))
	q := &feed.Request{Surface: demo.Surface, Subject: "subject", Profiling: true, Features: b.m.Names()}
	for i := range n {
		q.Items = append(q.Items, feed.RequestItem{ID: strconv.FormatUint(r.Uint64()>>1, 10), Values: b.rows[i%len(b.rows)],
			Region: []string{"IE", "FR", "NO", "DE"}[r.IntN(4)], Creator: []string{"small", "medium", "large"}[r.IntN(3)]})
	}
	return q
}

// storage: bytes of a decision of 200 items with all that giving it again needs, for values as
// the reference rows have them (six digits) and for values of a float32's whole precision.
func (b *bench) storage() error {
	for name, exact := range map[string]bool{"decision_bytes": false, "decision_bytes_float32": true} {
		d := &decision.Decision{ID: decision.NewID(time.Now()), Surface: demo.Surface, Subject: "subject"}
		for _, h := range []*decision.Hash{&d.Model, &d.Features, &d.Scores} {
			for i := range h {
				h[i] = byte(rand.Uint32()) // hashes do not compress
			}
		}
		for _, it := range b.request(200).Items {
			values := slices.Clone(it.Values)
			for f, v := range values {
				if exact && v != float64(int(v)) {
					values[f] = float64(float32(v * (1 + rand.Float64()/1e3)))
				}
			}
			d.Items = append(d.Items, decision.Item{ID: it.ID, Region: it.Region, Creator: it.Creator, Topic: strconv.Itoa(int(values[10])), Values: values})
		}
		enc, err := d.Encode()
		if err != nil {
			return err
		}
		fmt.Printf("figure %s %d bytes\n", name, len(enc))
	}
	return nil
}
