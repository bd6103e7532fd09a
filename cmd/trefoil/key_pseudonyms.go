package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// newKeyListCommand shows the keys of pseudonyms.
func newKeyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys of pseudonyms: purpose, epoch, when made, when destroyed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, ring, err := openRing(cmd)
			if err != nil {
				return err
			}
			all, err := ring.List()
			if err != nil {
				return err
			}
			return report(cmd, all, func() {
				w := cmd.OutOrStdout()
				if ring.Root() {
					fmt.Fprintf(w, "%s: %v\n", cfg.Keys.Pseudonyms, keyring.ErrOneRoot)
				}
				for _, e := range all {
					state := "stands"
					if e.Destroyed != nil {
						state = "destroyed " + e.Destroyed.Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%-24s epoch %-4d made %s  %s\n", e.Purpose, e.Epoch, e.Made.Format(time.RFC3339), state)
				}
			})
		},
	}
}

func openRing(cmd *cobra.Command) (*enclave.Config, *keyring.Ring, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, nil, err
	}
	ring, err := cfg.Keyring()
	return cfg, ring, err
}

// newKeyRotateCommand begins a new epoch of a purpose's pseudonyms.
func newKeyRotateCommand() *cobra.Command {
	var rebuild bool
	cmd := &cobra.Command{
		Use:   "rotate PURPOSE",
		Short: "Begin a new epoch of a purpose's pseudonyms: a new key, and its number in purposes.yaml",
		Long: "Begin a new epoch of a purpose's pseudonyms: draw a new key, record that in the access log, and write the epoch into\n" +
			"purposes.yaml. The definitions of the purpose's datasets are others from then on: the monitor acknowledges them anew.\n\n" +
			"A gateway and a trefoil dataset follow that run notice it within a second or two. What follows is built with the new\n" +
			"pseudonyms beside what stands, and swapped in place; what does not follow is built by trefoil dataset build, or\n" +
			"--rebuild. Until then sessions that are open go on, and new ones are refused. Where something else in purposes.yaml,\n" +
			"catalogs or datasets changed as well, both go on as before and say so. The former key stays until trefoil key destroy;\n" +
			"until then its pseudonyms can be made again.",
		Example: "  trefoil key rotate research\n  trefoil key rotate research --rebuild",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			epoch, names, err := rotateKey(cmd, args[0])
			if err != nil {
				return err
			}
			out := map[string]any{"purpose": args[0], "epoch": epoch, "datasets": names}
			if err := report(cmd, out, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "purpose %s has epoch %d from now on; datasets to build anew: %v\n", args[0], epoch, names)
			}); err != nil || !rebuild {
				return err
			}
			return withDatasets(cmd, func(ctx context.Context, b *dataset.Builder) error {
				return eachDataset(ctx, cmd, b, names, buildDataset)
			})
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "build the purpose's datasets anew now, beside those that stand; one that is being followed is refused")
	return cmd
}

func rotateKey(cmd *cobra.Command, purpose string) (epoch int, names []string, err error) {
	err = withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) error {
		p := r.Files.Purposes.Purpose(purpose)
		if p == nil {
			return fmt.Errorf("there is no purpose %s in %s", purpose, r.Config.Purposes)
		}
		ring, err := r.Config.Keyring()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(r.Config.Purposes)
		if err != nil {
			return fmt.Errorf("rotate key: %w", err)
		}
		if _, err := catalog.SetEpoch(text, purpose, p.Epoch+1); err != nil { // before anything is done
			return err
		}
		if epoch, err = ring.Rotate(purpose, p.Epoch+1); err != nil {
			return err
		}
		if err := recordKey(ctx, s, r.Config.Log.Origin, "rotated", purpose, epoch); err != nil {
			return err
		}
		if text, err = catalog.SetEpoch(text, purpose, epoch); err != nil {
			return err
		}
		for _, d := range r.Files.Datasets.Datasets {
			if d.Purpose == purpose {
				names = append(names, d.Name)
			}
		}
		return swapFile(r.Config.Purposes, text)
	})
	return epoch, names, err
}

// recordKey leaves the record of what became of a key where the log's process takes it.
func recordKey(ctx context.Context, s *control.Store, origin, event, purpose string, epoch int) error {
	return s.Enqueue(ctx, &trefoil.Body{At: time.Now().UTC().Truncate(time.Microsecond), Kind: trefoil.KindKey, Origin: origin,
		Key: &trefoil.KeyBody{Event: event, Key: purpose + "/" + strconv.Itoa(epoch), Use: "pseudonyms"}})
}

// swapFile writes a file beside the old one and puts it in its place, with its mode.
func swapFile(path string, text []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	return nil
}

// newKeyDestroyCommand takes a key of pseudonyms away for ever.
func newKeyDestroyCommand() *cobra.Command {
	var anyway bool
	cmd := &cobra.Command{
		Use:   "destroy PURPOSE EPOCH",
		Short: "Destroy the key of one epoch of a purpose's pseudonyms, for ever, and record it",
		Long: "Destroy the key of one epoch of a purpose's pseudonyms, for ever, and record that in the access log. Nobody can make\n" +
			"its pseudonyms again, nor lead them back: what was made with it is no longer linked to anybody by this enclave.\n\n" +
			"Refused while the epoch is the one in purposes.yaml, or a dataset stands that was built with it: such a dataset could\n" +
			"not be followed, verified or built any more. --anyway does it all the same; drop the datasets then.\n\n" +
			"Copies of the key ring in backups are not reached by this. Where a key management system wraps the keys (keys.kms),\n" +
			"they are worth nothing without it.",
		Example: "  trefoil key destroy research 1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			epoch, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("%w: %q is no epoch", errUsage, args[1])
			}
			if !anyway {
				if err := unused(cmd, args[0], epoch); err != nil {
					return err
				}
			}
			var gone keyring.Entry
			err = withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) error {
				ring, err := r.Config.Keyring()
				if err != nil {
					return err
				}
				if gone, err = ring.Destroy(args[0], epoch); err != nil {
					return err
				}
				if err := recordKey(ctx, s, r.Config.Log.Origin, "destroyed", args[0], epoch); err != nil {
					return fmt.Errorf("the key is destroyed, and that is not recorded yet: run this again: %w", err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return report(cmd, gone, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "key of purpose %s, epoch %d destroyed at %s\n", gone.Purpose, gone.Epoch, gone.Destroyed.Format(time.RFC3339))
			})
		},
	}
	cmd.Flags().BoolVar(&anyway, "anyway", false, "destroy it though datasets were built with it")
	return cmd
}

// unused refuses a key that something was made with that stands.
func unused(cmd *cobra.Command, purpose string, epoch int) error {
	return withDatasets(cmd, func(ctx context.Context, b *dataset.Builder) error {
		users, err := b.BuiltWith(ctx, purpose, epoch)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("the key of purpose %s, epoch %d is in use by %v: rotate it and build them anew, or drop them (--anyway destroys it all the same)",
				purpose, epoch, users)
		}
		return nil
	})
}
