// Centrifuge, the library under Centrifugo, with its memory broker: what its own benchmark example sets up, or its Redis broker.
// Channels whose name begins with "h:" keep history (500 messages), so that an answer to a publish there means
// "kept in memory" and a subscriber can recover.
//
// Debian's packages are enough to build it, without a network:
//
//	apt-get install golang-go golang-github-centrifugal-centrifuge-dev golang-github-centrifugal-protocol-dev \
//	    golang-github-fzambia-eagle-dev golang-github-igm-sockjs-go-dev golang-github-mna-redisc-dev
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
)

func main() {
	config := centrifuge.DefaultConfig
	config.LogLevel = centrifuge.LogLevelError
	config.LogHandler = func(e centrifuge.LogEntry) { log.Printf("%s: %v", e.Message, e.Fields) }
	node, err := centrifuge.New(config)
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "bench"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(e centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			kept := strings.HasPrefix(e.Channel, "h:")
			reply(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{Recover: kept, Position: kept}}, nil)
		})
		client.OnPublish(func(e centrifuge.PublishEvent, reply centrifuge.PublishCallback) {
			if !strings.HasPrefix(e.Channel, "h:") {
				reply(centrifuge.PublishReply{}, nil)
				return
			}
			result, err := node.Publish(e.Channel, e.Data, centrifuge.WithHistory(500, 10*time.Minute))
			reply(centrifuge.PublishReply{Result: &result}, err)
		})
		client.OnHistory(func(_ centrifuge.HistoryEvent, reply centrifuge.HistoryCallback) {
			reply(centrifuge.HistoryReply{}, nil)
		})
	})
	// A second argument is the address of a Redis, which connects several processes.
	if len(os.Args) > 2 {
		shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: os.Args[2]})
		if err != nil {
			log.Fatal(err)
		}
		broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
		if err != nil {
			log.Fatal(err)
		}
		node.SetBroker(broker)
	}
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
