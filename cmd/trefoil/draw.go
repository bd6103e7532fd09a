package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/evidence"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newDrawCommand opens an inspection sample at the site.
func newDrawCommand() *cobra.Command {
	var s evidence.Sample
	var kind, headFile string
	cmd := &cobra.Command{
		Use:   "draw -c enclave.yaml --seed S --n N OUT",
		Short: "Open an inspection sample: records drawn by an inspector's seed, with their openings",
		Long: "Write to OUT (a zip if its name ends so, else a directory) the receipts of N records that the inspector's seed draws from the log's head, and the salts " +
			"of their commitments. The inspector fixes the head first (--head), then tells the seed; `trefoil verify OUT` draws again. OUT stays in the region.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Kind = trefoil.Kind(kind)
			if headFile != "" {
				raw, err := os.ReadFile(headFile)
				if err != nil {
					return fmt.Errorf("read head: %w", err)
				}
				s.Head = raw
			}
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			return drawSample(cmd, c, s, args[0])
		},
	}
	cmd.Flags().StringVar(&s.Seed, "seed", "", "the inspector's: 8 to 200 printable characters")
	cmd.Flags().IntVar(&s.N, "n", 20, "how many records")
	cmd.Flags().StringVar(&kind, "kind", "", "count records of this kind only, such as release; the others that are drawn are opened too")
	cmd.Flags().StringVar(&headFile, "head", "", "a checkpoint that the inspector took before telling the seed; default the published one")
	return cmd
}

func drawSample(cmd *cobra.Command, c *enclave.Config, s evidence.Sample, out string) error {
	raw, err := os.ReadFile(c.Log.Key)
	if err != nil {
		return fmt.Errorf("read the log's key: %w", err)
	}
	skey := strings.TrimSpace(string(raw))
	k := evidence.SiteKeys{Witnesses: []string{c.Monitor.Witness}, Permit: c.Monitor.Permit}
	if k.Signer, err = note.NewSigner(skey); err != nil {
		return fmt.Errorf("read the log's key: %w", err)
	}
	if k.Log, err = monitor.VerifierKey(monitor.UseLog, skey); err != nil {
		return err
	}
	r, err := accesslog.OpenReader(c.Log.Directory)
	if err != nil {
		return err
	}
	defer r.Close()
	d, verified, err := evidence.Draw(cmd.Context(), r, s, k, time.Now(), out)
	if err != nil {
		return err
	}
	return report(cmd, map[string]any{"path": out, "drawn": d, "report": verified}, func() {
		for _, line := range verified.Proven {
			fmt.Fprintln(cmd.OutOrStdout(), "holds:", line)
		}
	})
}
