package feed

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/explain"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// maxFeaturesFile bounds a features file, in bytes.
const maxFeaturesFile = 8 << 20

// bound is one model with its words, whole and never changed.
type bound struct {
	model     *model.Model
	words     *features.Features
	explainer *explain.Explainer
	personal  []bool // of each feature

	modelHash, wordsHash decision.Hash
	modelFile, wordsFile []byte // nil once archived

	// apply is words.Apply. The checks run what production runs, so that a fault here is found.
	apply func(s features.Settings, row []float64) float64
}

// loadBound reads both files and binds them, or says in one error what does not fit.
func loadBound(modelPath, wordsPath string) (*bound, error) {
	modelFile, err := readBounded(modelPath, model.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	wordsFile, err := readBounded(wordsPath, maxFeaturesFile)
	if err != nil {
		return nil, fmt.Errorf("load features: %w", err)
	}
	m, err := model.Read(filepath.Base(modelPath), bytes.NewReader(modelFile))
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	if m.Outputs != 1 {
		return nil, fmt.Errorf("load model: it has %d outputs: a ranking needs one score an item", m.Outputs)
	}
	if len(m.Features) > decision.MaxFeatures {
		return nil, fmt.Errorf("load model: it has more than %d features", decision.MaxFeatures)
	}
	file, err := features.Parse(filepath.Base(wordsPath), wordsFile)
	if err != nil {
		return nil, fmt.Errorf("load features: %w", err)
	}
	words, err := file.Bind(m)
	if err != nil {
		return nil, fmt.Errorf("load features: %w", err)
	}
	explainer, err := explain.New(m, 0)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	b := &bound{model: m, words: words, explainer: explainer, personal: words.Personal(), apply: words.Apply,
		wordsHash: sha256.Sum256(wordsFile), modelHash: sha256.Sum256(modelFile), modelFile: modelFile, wordsFile: wordsFile}
	return b, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), most)
	}
	return raw, nil
}

// score applies the settings to rows that stand one behind the other in flat, in place, and
// returns each row's final score and what the settings added to it.
func (b *bound) score(s features.Settings, flat []float64) (scores, adjust []float64) {
	width := len(b.model.Features)
	n := len(flat) / width
	scores, adjust = make([]float64, n), make([]float64, n)
	for i := range n {
		adjust[i] = b.apply(s, flat[i*width:(i+1)*width])
	}
	b.scoreRows(flat, scores)
	for i := range scores {
		scores[i] += adjust[i]
	}
	return scores, adjust
}

// fewest rows that are worth a goroutine of their own.
const fewest = 100

// scoreRows scores in as many parts as there are processors. The answers do not depend on it.
func (b *bound) scoreRows(flat, scores []float64) {
	width, parts := len(b.model.Features), max(1, min(runtime.GOMAXPROCS(0), len(scores)/fewest))
	var wg sync.WaitGroup
	for p := range parts {
		from, to := p*len(scores)/parts, (p+1)*len(scores)/parts
		if p == parts-1 { // this goroutine works too
			b.model.ScoreRows(flat[from*width:to*width], scores[from:to])
			break
		}
		wg.Go(func() { b.model.ScoreRows(flat[from*width:to*width], scores[from:to]) })
	}
	wg.Wait()
}

// rows puts a decision's values one behind the other, as stored.
func (b *bound) rows(d *decision.Decision) ([]float64, error) {
	width := len(b.model.Features)
	flat := make([]float64, 0, width*len(d.Items))
	for i := range d.Items {
		if len(d.Items[i].Values) != width {
			return nil, errors.New("a decision's rows do not fit its model")
		}
		flat = append(flat, d.Items[i].Values...)
	}
	return flat, nil
}
