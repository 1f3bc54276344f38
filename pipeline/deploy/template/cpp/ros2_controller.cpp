// An example of a ros2_control controller around supple::Policy. It is not compiled by Supple's tests: copy it into a
// package of yours, with controller_interface, pluginlib and rclcpp_lifecycle as dependencies, and read it line by line.
//
// It claims one command interface for each action axis and one state interface for each observation axis, in the order
// of the bundle, and writes commands that the limits of the bundle allow. Set its update_rate to the policy's rate.
//
//   my_policy:
//     ros__parameters:
//       type: supple/PolicyController
//       update_rate: 100
//       file: /opt/robot/deploy/cpp/acting_path.supple
//       command_interfaces: [joint1/position, joint2/position]
//       state_interfaces: [joint1/position, joint2/position, joint1/velocity, joint2/velocity]
//       command_axes: [joint1, joint2]              # the bundle's names, for the check of the order
//       state_axes: [joint1, joint2, joint1_velocity, joint2_velocity]
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "controller_interface/controller_interface.hpp"
#include "pluginlib/class_list_macros.hpp"
#include "supple_policy.hpp"

namespace supple {

class PolicyController : public controller_interface::ControllerInterface {
 public:
  controller_interface::CallbackReturn on_init() override {
    auto_declare<std::string>("file", "");
    for (const char* name : {"command_interfaces", "state_interfaces", "command_axes", "state_axes"})
      auto_declare<std::vector<std::string>>(name, {});
    return controller_interface::CallbackReturn::SUCCESS;
  }

  controller_interface::InterfaceConfiguration command_interface_configuration() const override {
    return {controller_interface::interface_configuration_type::INDIVIDUAL, list("command_interfaces")};
  }

  controller_interface::InterfaceConfiguration state_interface_configuration() const override {
    return {controller_interface::interface_configuration_type::INDIVIDUAL, list("state_interfaces")};
  }

  controller_interface::CallbackReturn on_configure(const rclcpp_lifecycle::State&) override {
    try {
      policy_ = std::make_unique<Policy>(get_node()->get_parameter("file").as_string());
      policy_->require_axes(list("state_axes"), list("command_axes"));
      const double period = 1.0 / get_update_rate();
      if (std::fabs(period - policy_->period) > 0.05 * policy_->period)
        throw std::runtime_error("update_rate: expected one step every " + std::to_string(policy_->period) + " s, got " +
                                 std::to_string(period) + " s; set update_rate");
      if (list("state_interfaces").size() != policy_->observation.size() ||
          list("command_interfaces").size() != policy_->action.size())
        throw std::runtime_error("interfaces: expected one for each axis; correct the lists");
    } catch (const std::exception& error) {
      RCLCPP_ERROR(get_node()->get_logger(), "%s", error.what());
      return controller_interface::CallbackReturn::ERROR;
    }
    seen_.assign(policy_->observation.size(), 0.0f);
    told_.assign(policy_->action.size(), 0.0f);
    return controller_interface::CallbackReturn::SUCCESS;
  }

  controller_interface::CallbackReturn on_activate(const rclcpp_lifecycle::State&) override {
    policy_->begin_task();
    policy_->begin_episode();
    return controller_interface::CallbackReturn::SUCCESS;
  }

  // ERROR deactivates this controller and activates its fallback_controllers: name one that holds the robot. Without
  // one, a position command stays, and a velocity command goes on.
  controller_interface::return_type update(const rclcpp::Time&, const rclcpp::Duration&) override {
    for (std::size_t index = 0; index < seen_.size(); ++index)
      seen_[index] = static_cast<float>(state_interfaces_[index].get_value());
    if (policy_->act(seen_.data(), 0.0f, told_.data()) != Status::ok) return controller_interface::return_type::ERROR;
    for (std::size_t index = 0; index < told_.size(); ++index) command_interfaces_[index].set_value(told_[index]);
    return controller_interface::return_type::OK;
  }

 private:
  std::vector<std::string> list(const std::string& name) const {
    return get_node()->get_parameter(name).as_string_array();
  }

  std::unique_ptr<Policy> policy_;
  std::vector<float> seen_, told_;
};

}  // namespace supple

PLUGINLIB_EXPORT_CLASS(supple::PolicyController, controller_interface::ControllerInterface)
