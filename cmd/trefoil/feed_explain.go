package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/people/feed/explain"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// feedExplainOptions are the flags of `trefoil feed explain`.
type feedExplainOptions struct {
	model, rows, background, features, language string
	label, output                               int
}

// newFeedExplainCommand prints the contributions of every row of a file.
func newFeedExplainCommand() *cobra.Command {
	o := &feedExplainOptions{}
	cmd := &cobra.Command{
		Use:   "explain --model MODEL --rows ROWS",
		Short: "Print the score of every row and what each feature added to it",
		Long: "Print the raw score of every row of a table and what each feature added to it (SHAP): the expected value and\n" +
			"the contributions add up to the score. Without a background sample, expectations are those that the trees'\n" +
			"counts tell (path-dependent TreeSHAP). With --json, one object a row.",
		Example: "  trefoil feed explain --model ranker.lightgbm.txt --rows rows.tsv --json\n" +
			"  trefoil feed explain --model ranker.lightgbm.txt --rows rows.tsv --features features.yaml --language fr",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return feedExplain(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "the model: LightGBM's text format or XGBoost's JSON")
	f.StringVar(&o.rows, "rows", "", "the rows: a header with the features' names, then a line a row, separated by tabs; - is standard input")
	f.IntVar(&o.label, "label", 0, "the column that is no feature, from 0; -1: there is none")
	f.IntVar(&o.output, "output", 0, "the model's output that is explained, from 0")
	f.StringVar(&o.background, "background", "", "explain against these rows (a table like --rows) instead of the trees' counts")
	f.StringVar(&o.features, "features", "", "features.yaml: give reasons in words, without profiling turned off")
	f.StringVar(&o.language, "language", "en", "of reasons: en or fr")
	return cmd
}

// contributor is either way of explaining.
type contributor interface {
	Expected() float64
	Contributions(row, phi []float64) float64
}

func feedExplain(cmd *cobra.Command, o *feedExplainOptions) error {
	if o.model == "" || o.rows == "" {
		return fmt.Errorf("%w: --model and --rows are needed", errUsage)
	}
	if o.language != "en" && o.language != "fr" {
		return fmt.Errorf("%w: --language is en or fr", errUsage)
	}
	m, err := model.ReadFile(o.model)
	if err != nil {
		return err
	}
	if o.output < 0 || o.output >= m.Outputs {
		return fmt.Errorf("%w: --output: the model has %d outputs", errUsage, m.Outputs)
	}
	c, err := o.contributor(m)
	if err != nil {
		return err
	}
	var words *features.Features
	if o.features != "" {
		if words, err = bindFeatures(o.features, m); err != nil {
			return err
		}
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	err = eachRow(o.rows, cmd.InOrStdin(), m, o.label, func(line int, row []float64) error {
		x := explainRow(m, c, o.output, row)
		if words != nil {
			x.Reasons = explain.Reasons(words, explain.Decision{Row: row, Settings: features.Settings{Profiling: true}, Contributions: x.phi})
		}
		if asJSON {
			return json.NewEncoder(out).Encode(x)
		}
		return x.print(out, line, o.language)
	})
	return errors.Join(err, out.Flush())
}

func (o *feedExplainOptions) contributor(m *model.Model) (contributor, error) {
	if o.background == "" {
		return explain.New(m, o.output)
	}
	var rows [][]float64
	err := eachRow(o.background, nil, m, o.label, func(_ int, row []float64) error {
		rows = append(rows, slices.Clone(row))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return explain.NewInterventional(m, o.output, rows)
}

func bindFeatures(path string, m *model.Model) (*features.Features, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := features.Parse(filepath.Base(path), src)
	if err != nil {
		return nil, err
	}
	return file.Bind(m)
}

// eachRow calls f with every row of a table.
func eachRow(path string, stdin io.Reader, m *model.Model, label int, f func(line int, row []float64) error) error {
	in, name := stdin, "standard input"
	if path != "-" || stdin == nil {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		in, name = file, filepath.Base(path)
	}
	rows, err := model.NewRows(name, in, m, label)
	if err != nil {
		return err
	}
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(rows.Line(), row); err != nil {
			return err
		}
	}
}

// explained is what is printed of one row.
type explained struct {
	Score         float64          `json:"score"`
	Expected      float64          `json:"expected"`
	Contributions []contribution   `json:"contributions"`
	Float32       *float64         `json:"float32,omitempty"` // XGBoost's own answer, rounded at every tree
	Reasons       []explain.Reason `json:"reasons,omitempty"`

	phi []float64
}

type contribution struct {
	Feature string  `json:"feature"`
	Value   float64 `json:"value"`
}

func explainRow(m *model.Model, c contributor, output int, row []float64) *explained {
	x := &explained{Score: m.Exact(output, row), Expected: c.Expected(), phi: make([]float64, len(m.Features))}
	c.Contributions(row, x.phi)
	for i, v := range x.phi {
		x.Contributions = append(x.Contributions, contribution{m.Features[i].Name, v})
	}
	if m.Format == model.XGBoost {
		own := m.Scores(row, nil)[output]
		x.Float32 = &own
	}
	return x
}

// print writes a row as a table, the heaviest contributions first.
func (x *explained) print(w io.Writer, line int, language string) error {
	fmt.Fprintf(w, "line %d: score %.6g, expected %.6g\n", line, x.Score, x.Expected)
	if x.Reasons != nil {
		fmt.Fprintf(w, "  %s\n", explain.Summary(x.Reasons, 3, language))
	}
	heaviest := slices.Clone(x.Contributions)
	slices.SortStableFunc(heaviest, func(a, b contribution) int {
		switch a, b := math.Abs(a.Value), math.Abs(b.Value); {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	for _, c := range heaviest {
		fmt.Fprintf(w, "  %+12.6f  %s\n", c.Value, c.Feature)
	}
	_, err := fmt.Fprintln(w)
	return err
}
