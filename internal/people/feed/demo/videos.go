package demo

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// video is one invented video. The numbers that a platform would have measured come from its
// place in the list, so that every run shows the same.
type video struct {
	title  features.Text
	topic  int // as features.yaml numbers topics
	region string
	large  bool
}

var videos = []video{
	{features.Text{EN: "Four fiddles in a kitchen in Clare", FR: "Quatre violons dans une cuisine du Clare"}, 0, "IE", false},
	{features.Text{EN: "A choir of ferry crews", FR: "Un chœur d’équipages de ferry"}, 0, "NO", true},
	{features.Text{EN: "Learn the bourrée in ninety seconds", FR: "Apprendre la bourrée en 90 secondes"}, 1, "FR", false},
	{features.Text{EN: "Brown bread, no scales", FR: "Du pain brun, sans balance"}, 2, "IE", true},
	{features.Text{EN: "Cod dried on racks, then a stew", FR: "Morue séchée, puis en ragoût"}, 2, "NO", false},
	{features.Text{EN: "The secret of a clear bouillon", FR: "Le secret d’un bouillon clair"}, 2, "FR", false},
	{features.Text{EN: "Night train to Hamar", FR: "Train de nuit pour Hamar"}, 3, "NO", true},
	{features.Text{EN: "Three days on the canals by bicycle", FR: "Trois jours de canaux à vélo"}, 3, "FR", false},
	{features.Text{EN: "The goalkeeper who scored twice", FR: "La gardienne qui marqua deux fois"}, 4, "IE", true},
	{features.Text{EN: "Why corners are worth so little", FR: "Pourquoi les corners valent si peu"}, 4, "DE", true},
	{features.Text{EN: "Truing a wheel by ear", FR: "Dévoiler une roue à l’oreille"}, 5, "FR", false},
	{features.Text{EN: "A film set built of cardboard", FR: "Un décor de film en carton"}, 6, "FR", true},
	{features.Text{EN: "Reading aloud: a lighthouse diary", FR: "Lecture : journal d’un phare"}, 7, "IE", false},
	{features.Text{EN: "How the Vikings counted", FR: "Comment les Vikings comptaient"}, 8, "NO", true},
	{features.Text{EN: "A shipwreck in one minute", FR: "Un naufrage en une minute"}, 8, "IE", false},
	{features.Text{EN: "What a neutrino passes through", FR: "Ce que traverse un neutrino"}, 9, "FR", true},
	{features.Text{EN: "Ice that sings", FR: "La glace qui chante"}, 9, "NO", false},
	{features.Text{EN: "An otter learns to dive", FR: "Une loutre apprend à plonger"}, 10, "IE", true},
	{features.Text{EN: "Reindeer cross a road, slowly", FR: "Des rennes traversent, lentement"}, 10, "NO", true},
	{features.Text{EN: "Leeks in February", FR: "Des poireaux en février"}, 11, "FR", false},
	{features.Text{EN: "A coat from two curtains", FR: "Un manteau de deux rideaux"}, 12, "DE", false},
	{features.Text{EN: "Things tourists ask in Galway", FR: "Ce que demandent les touristes à Galway"}, 13, "IE", true},
	{features.Text{EN: "The budget in three apples", FR: "Le budget en trois pommes"}, 15, "FR", false},
	{features.Text{EN: "A chess trap from 1912", FR: "Un piège d’échecs de 1912"}, 16, "NO", false},
	{features.Text{EN: "An engine older than its owner", FR: "Un moteur plus vieux que son maître"}, 17, "DE", true},
	{features.Text{EN: "Round the Fastnet in a storm", FR: "Le tour du Fastnet sous la tempête"}, 18, "IE", false},
	{features.Text{EN: "Blue, in eleven layers", FR: "Du bleu, en onze couches"}, 19, "FR", false},
	{features.Text{EN: "Irish words for rain", FR: "Les mots irlandais de la pluie"}, 20, "IE", false},
	{features.Text{EN: "Sleep: what one week changes", FR: "Le sommeil : ce qu’une semaine change"}, 21, "NO", true},
	{features.Text{EN: "Slates, and how roofs breathe", FR: "L’ardoise, et comment les toits respirent"}, 22, "FR", false},
}

// featureNames is the order of the values below; it is not the model's on purpose.
var featureNames = []string{"topic", "topic_affinity", "watch_ratio_7d", "creator_followed", "shares_by_friends", "language_match",
	"session_depth", "device_class", "freshness_hours", "popularity_log", "region_trend", "video_length_s"}

// viewer is an invented person.
type viewer struct {
	name   string
	likes  []int // topics
	speaks string
	device int
}

var viewers = []viewer{
	{"Aoife", []int{0, 10, 18, 20}, "IE", 0},
	{"Benoît", []int{2, 11, 19, 6}, "FR", 2},
}

// request is what the platform of the demonstration sends for a viewer. who chooses the
// numbers that differ from person to person.
func request(v viewer, who uint64, controls feed.Controls, profiling bool) *feed.Request {
	r := &feed.Request{Surface: Surface, Subject: fmt.Sprintf("viewer-%d", who), Profiling: profiling, Controls: controls, Features: featureNames}
	person := rand.New(rand.NewPCG(who, 1))
	depth := float64(1 + person.IntN(50))
	for i, x := range videos {
		item, own := rand.New(rand.NewPCG(uint64(i), 2)), rand.New(rand.NewPCG(uint64(i), who+3))
		affinity, ratio := own.Float64()*0.35, own.Float64()*0.5
		for _, t := range v.likes {
			if t == x.topic {
				affinity, ratio = 0.5+own.Float64()*0.35, 0.55+own.Float64()*0.4
			}
		}
		if own.IntN(8) == 0 {
			ratio = math.NaN() // nothing watched in seven days
		}
		creator, popular := "small", 2+item.Float64()*4
		if x.large {
			creator, popular = "large", 6+item.Float64()*4
		}
		r.Items = append(r.Items, feed.RequestItem{ID: fmt.Sprintf("video-%02d", i), Region: x.region, Creator: creator,
			Values: feed.Values{float64(x.topic), round(affinity), round(ratio), float64(own.IntN(8) / 7), float64(own.IntN(9) / 7),
				float64(truth(v.speaks == x.region || own.IntN(2) == 0)), depth, float64(v.device), round(item.ExpFloat64() * 30),
				round(popular), round(item.Float64()), round(8 + item.ExpFloat64()*30)}})
	}
	return r
}

// round keeps four decimals, as a platform would send.
func round(v float64) float64 { return math.Round(v*1e4) / 1e4 }

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Traffic ranks the feed for n invented people, a third of them without profiling.
func Traffic(ctx context.Context, s *feed.Service, n int) error {
	for i := range n {
		v := viewer{likes: []int{i % 24, (i * 7) % 24, (i * 5) % 24}, speaks: []string{"IE", "FR", "NO", "DE"}[i%4], device: i % 4}
		if _, err := s.Rank(ctx, request(v, uint64(100+i), feed.Controls{}, i%3 != 0)); err != nil {
			return fmt.Errorf("make traffic: %w", err)
		}
	}
	return nil
}
