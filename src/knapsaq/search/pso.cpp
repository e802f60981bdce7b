#include <algorithm>
#include <cmath>
#include <limits>

#include "knapsaq/base/error.h"
#include "knapsaq/search/population_search.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

struct Particle {
  std::vector<double> position;  ///< of every free variable, between 0 and its last level
  std::vector<double> velocity;  ///< levels per epoch
  std::vector<double> best;      ///< its best levels
  double value = std::numeric_limits<double>::infinity();
};

/// A particle swarm with global best (Kennedy and Eberhart 1995; inertia: Shi and Eberhart 1998). Particles
/// move through real numbers and are evaluated at the nearest levels.
class SwarmSearch final : public PopulationSearch {
 public:
  SwarmSearch(const StrategySetup& setup, const OptionValues& options)
      : PopulationSearch(setup, options, "pso"),
        inertia_(options.number("inertia")),
        cognitive_(options.number("cognitive")),
        social_(options.number("social")),
        clamp_(share(options, "clamp")) {
    if (clamp_ == 0) throw UsageError("option clamp of pso is 0: particles would never move");
  }

 private:
  double last(std::size_t d) const { return static_cast<double>(levels(free_variables()[d]) - 1); }

  std::vector<Point> propose() override {
    const std::vector<double>& leader = particles_[leader_].best;
    std::vector<Point> points;
    for (Particle& particle : particles_) {
      Point point(space().variables.size(), 0);
      for (std::size_t d = 0; d < leader.size(); ++d) {
        double& position = particle.position[d];
        double& velocity = particle.velocity[d];
        const double most = clamp_ * last(d);
        // One draw after the other: the order within an expression is up to the compiler.
        const double own = random().uniform();
        const double others = random().uniform();
        velocity = inertia_ * velocity + cognitive_ * own * (particle.best[d] - position) +
                   social_ * others * (leader[d] - position);
        velocity = std::clamp(velocity, -most, most);
        position += velocity;
        if (position < 0 || position > last(d)) {
          position = std::clamp(position, 0.0, last(d));
          velocity = 0;  // otherwise it would stay at the boundary for epochs
        }
        point[free_variables()[d]] = static_cast<std::uint8_t>(std::lround(position));
      }
      points.push_back(std::move(point));
    }
    return points;
  }

  void learn(std::span<const Point> points, std::span<const double> values) override {
    if (particles_.empty()) start(points);
    for (std::size_t i = 0; i < points.size(); ++i) {
      Particle& particle = particles_[i];
      for (std::size_t d = 0; d < particle.position.size(); ++d) {
        // If a point was changed to fit the budget, the particle moves to the changed point.
        const double asked = points[i][free_variables()[d]];
        if (std::lround(particle.position[d]) != std::lround(asked)) particle.position[d] = asked;
      }
      if (values[i] >= particle.value) continue;
      particle.value = values[i];
      for (std::size_t d = 0; d < particle.best.size(); ++d)
        particle.best[d] = points[i][free_variables()[d]];
      if (particle.value < particles_[leader_].value) leader_ = i;
    }
  }

  void start(std::span<const Point> points) {
    for (const Point& point : points) {
      Particle& particle = particles_.emplace_back();
      for (std::size_t d = 0; d < free_variables().size(); ++d) {
        particle.position.push_back(point[free_variables()[d]]);
        particle.velocity.push_back((2 * random().uniform() - 1) * clamp_ * last(d));
        particle.best.push_back(particle.position.back());
      }
    }
  }

  double inertia_;
  double cognitive_;
  double social_;
  double clamp_;
  std::vector<Particle> particles_;
  std::size_t leader_ = 0;
};

}  // namespace

StrategyInfo pso_strategy() {
  return {
      "pso", "particle swarm with global best, rounded to levels",
      PopulationSearch::options(
          {{"inertia", "0.7298",
            "share of the velocity that is kept (Clerc and Kennedy's constriction, 2002)"},
           {"cognitive", "1.49618", "pull of a particle's own best point (Clerc and Kennedy)"},
           {"social", "1.49618", "pull of the swarm's best point (Clerc and Kennedy)"},
           {"clamp", "0.5", "largest velocity as a share of a variable's range: no jump from end to end"}}),
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<SwarmSearch>(setup, options);
      }};
}

}  // namespace knapsaq
